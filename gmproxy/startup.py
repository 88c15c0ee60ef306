"""The start of gmproxy and magent: arguments in, a serving process out.

Exit status: 0 fine, 1 the machine refuses (a port in use, an unknown user), 2 the configuration cannot be used.
"""

import contextlib
import functools
import logging
import os
import sys
import sysconfig
import time
from collections.abc import Callable
from typing import Any

from gmproxy.config import configuration, sample
from gmproxy.errors import ConfigError, GmproxyError, StartError
from gmproxy.monitoring import log_output, logging_setup
from gmproxy.placement.profiles import PROFILES
from gmproxy.process.listeners import ListeningSockets
from gmproxy.process.supervisor import Supervisor
from gmproxy.process.worker_context import WorkerContext
from gmproxy.process.worker_group import WorkerGroup
from gmproxy.system import bootstrap, daemon, descriptors, proctitle, sockets, systemd
from gmproxy.system.systemd import Notifier


def run_command_line(program: str, compat: str, arguments: list[str] | None = None) -> int:
    """Do what the `arguments` say, or those of the process if None. `compat`: the program that is emulated if none is configured. Returns the
    exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    start_report = daemon.StartReport()
    try:
        listening_sockets = ListeningSockets(environment := dict(os.environ))
        start_report.pipe = listening_sockets.report_to
        source = configuration.ConfigSource(arguments, environment, program, compat)
        configs = source.load()
        if source.actions and "demo" not in source.actions:
            bootstrap.default_signals()
        if "list_profiles" in source.actions:
            print("\n".join(f"{name:40} {profile.sentence}" for name, profile in PROFILES.items()))
        elif "test_conf" in source.actions:
            daemon.user_ids(configs[0].user, configs[0].group)
            print(_verdict(program, configs))
        elif "print_config" in source.actions:
            print(configuration.describe(configs))
        elif "print_sample_config" in source.actions:
            print(sample.sample_configuration(), end="")
        elif "print_systemd_unit" in source.actions:
            print(sample.systemd_unit(_directory_of_commands()), end="")
        elif "demo" in source.actions:
            from gmproxy import demo

            demo.run(configs[0], program)
        else:
            proctitle.drop_interpreter()
            _serve(Supervisor(source, configs, listening_sockets, Notifier(source.environment), start_report), program)
    except GmproxyError as error:
        start_report.report(f"{program}: {error}\n")
        severity = f"<{log_output.severity_of(logging.ERROR)}>" if systemd.is_journal(log_output.STDERR, os.environ) else ""
        with contextlib.suppress(OSError):  # a closed stderr does not change the exit status
            print(f"{severity}{program}: {error}", file=sys.stderr, flush=True)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 1
    except Exception as error:
        start_report.report(f"{program}: {type(error).__name__}: {error}\n")
        raise
    return 0


def _directory_of_commands() -> str:
    """Where the command is that was typed, or where those of this Python are if it was `python -m gmproxy`."""
    typed = sys.argv[0]
    return sysconfig.get_path("scripts") if typed.endswith(".py") else os.path.dirname(os.path.abspath(typed))


def goes_to_background(config: Any) -> bool:
    """True for magent unless its configuration says otherwise; for gmproxy only if its configuration says so."""
    if config.foreground or config.verbose:
        return config.daemon
    return config.daemon or config.compat == "magent"


def _verdict(program: str, configs: list[Any]) -> str:
    if configs[0].pools:
        return f"{program}: configuration file '{configs[0].pools}' syntax is ok: {len(configs)} pools"
    return f"{program}: configuration is valid: servers: {len(configs[0].server)}, backups: {len(configs[0].backup)}"


def _serve(supervisor: Supervisor, program: str) -> None:
    """Bind, go to the background, write the pid file, change the user, and serve. Raises StartError, and leaves no file behind.

    Between two steps it checks for a signal that ends the service: until the workers serve, signals are only held.
    """
    listening_sockets, start_report = supervisor.listening_sockets, supervisor.start_report
    config = supervisor.configs[0]  # the settings of the process are the same in every pool's
    in_background = goes_to_background(config)
    try:
        listening_sockets.bind_new(supervisor.configs)
        if config.control:
            listening_sockets.open_control(config.control, daemon.user_ids(config.user, config.group))
        if bootstrap.end_is_pending():
            return
        if in_background and start_report.pipe is None:
            start_report.pipe = daemon.go_to_background()
        stderr = log_output.open_stderr()  # as long as we may be root
        descriptors.reserve(supervisor.configs)
        set_up_logs = functools.partial(logging_setup.set_up, in_background=in_background)
        with daemon.acting_as(config.user, config.group):
            set_up_logs(config)
        if config.pid_file and listening_sockets.predecessor is None:
            daemon.write_pid_file(config.pid_file)
        daemon.drop_privileges(config.user, config.group)
        if bootstrap.end_is_pending():
            start_report.report(f"{program}: ended by a signal at the start\n")
            return
        names = ", ".join(address for address in listening_sockets.sockets if address not in sockets.admin_addresses(config))
        sys.stderr = log_output.NonBlockingStderr(stderr)

        def ready() -> None:
            print(f"{program}: serving on {names}", file=sys.stderr)

        _worker_group(supervisor, set_up_logs).run(ready)
    finally:
        bootstrap.ignore_signals()
        supervisor.clean_up()


def _worker_group(supervisor: Supervisor, set_up_logs: Callable[..., Any]) -> WorkerGroup:
    """A single process, or the master of several workers. Raises StartError."""
    wanted = supervisor.configs[0].workers
    count = daemon.usable_cpus() if wanted == "auto" else wanted
    if count > 1:
        from gmproxy.process.master import Master

        return Master(supervisor, count, set_up_logs)
    try:
        from gmproxy.process.single_process import SingleProcess  # only here: gevent must not start before the fork
    except ImportError as error:
        raise StartError(f"user {supervisor.configs[0].user or os.getuid()} cannot load the program: {error}") from None
    return SingleProcess(supervisor, WorkerContext(started_at=time.monotonic()), set_up_logs)
