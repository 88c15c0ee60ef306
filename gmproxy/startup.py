"""The start of gmproxy and magent: arguments in, a serving process out.

Exit status: 0 fine, 1 the machine refuses (a port in use, an unknown user), 2 the configuration cannot be used.
"""

import contextlib
import functools
import os
import sys
import time

from gmproxy.config import configuration
from gmproxy.errors import ConfigError, GmproxyError, StartError
from gmproxy.monitoring import log_output, logging_setup
from gmproxy.placement.profiles import PROFILES
from gmproxy.process.listeners import ListeningSockets
from gmproxy.process.shared_memory import Board, WorkerContext
from gmproxy.process.supervisor import Supervisor
from gmproxy.system import bootstrap, daemon, descriptors, proctitle, sockets
from gmproxy.system.systemd import Notifier


def command(program, compat, arguments=None):
    """Do what the `arguments` say, those of the process if None. Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    waiting = daemon.Waiting()
    try:
        places = ListeningSockets(environment := dict(os.environ))
        waiting.pipe = places.report_to
        source = configuration.Source(arguments, environment, program, compat)
        configs = source.read()
        if source.actions and "demo" not in source.actions:
            bootstrap.default_signals()
        if "list_profiles" in source.actions:
            print("\n".join(f"{name:40} {profile.sentence}" for name, profile in PROFILES.items()))
        elif "test_conf" in source.actions:
            print(_verdict(program, configs))
        elif "print_config" in source.actions:
            print(configuration.describe(configs))
        elif "demo" in source.actions:
            from gmproxy import demo
            demo.run(configs[0], program)
        else:
            proctitle.drop_interpreter()
            _serve(Supervisor(source, configs, places, Notifier(source.environment), waiting), program)
    except GmproxyError as error:
        waiting.tell(f"{program}: {error}\n")
        with contextlib.suppress(OSError):  # a dead stderr does not change the exit status
            print(f"{program}: {error}", file=sys.stderr, flush=True)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 1
    except Exception as error:
        waiting.tell(f"{program}: {type(error).__name__}: {error}\n")
        raise
    return 0


def goes_to_background(config):
    """magent does unless told otherwise, gmproxy only if told so."""
    if config.foreground or config.verbose:
        return config.daemon
    return config.daemon or config.compat == "magent"


def _verdict(program, configs):
    if configs[0].pools:
        return f"{program}: configuration file '{configs[0].pools}' syntax is ok: {len(configs)} pools"
    return f"{program}: configuration is valid: servers: {len(configs[0].server)}, backups: {len(configs[0].backup)}"


def _serve(steward, program):
    """Bind, go to the background, write the pid file, become the user, and serve. Raises StartError, and leaves no file behind.

    A signal that ends the service is looked for between two steps: until the crew serves, signals are only kept.
    """
    places, waiting = steward.places, steward.waiting
    config = steward.configs[0]  # every pool's knows what holds for the process
    in_background = goes_to_background(config)
    try:
        places.open(steward.configs)
        if config.control:
            places.open_control(config.control, daemon.owner(config.user, config.group))
        if bootstrap.must_end():
            return
        if in_background and waiting.pipe is None:
            waiting.pipe = daemon.go_to_background()
        stderr = log_output.open_stderr()  # as long as we may be root
        descriptors.make_room(steward.configs)
        set_up_logs = functools.partial(logging_setup.set_up, in_background=in_background)
        with daemon.acting_as(config.user, config.group):
            set_up_logs(config)
        if config.pid_file and places.predecessor is None:
            daemon.write_pid_file(config.pid_file)
        daemon.become(config.user, config.group)
        if bootstrap.must_end():
            waiting.tell(f"{program}: ended by a signal at the start\n")
            return
        names = ", ".join(place for place in places.sockets if place not in sockets.for_admin(config))
        sys.stderr = log_output.Stderr(stderr)

        def ready():
            print(f"{program}: serving on {names}", file=sys.stderr)

        _crew(steward, set_up_logs).run(ready)
    finally:
        bootstrap.ignore_signals()
        steward.gone()


def _crew(steward, set_up_logs):
    """This process alone, or a master of several."""
    wanted = steward.configs[0].workers
    count = daemon.cpus() if wanted == "auto" else wanted
    if count > 1:
        from gmproxy.process.master import Master
        return Master(steward, count, Board(count), set_up_logs)
    try:
        from gmproxy.process.single_process import (
            SingleProcess,  # only here: gevent must not begin before the fork
        )
    except ImportError as error:
        raise StartError(f"user {steward.configs[0].user or os.getuid()} cannot load the program: {error}") from None
    return SingleProcess(steward, WorkerContext(started_at=time.monotonic()), set_up_logs)
