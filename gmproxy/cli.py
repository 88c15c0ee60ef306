"""The commands gmproxy and magent: arguments in, a serving process out.

Exit status: 0 fine, 1 the machine refuses (a port in use, an unknown user), 2 the configuration cannot be used.
"""

import os
import sys

from gmproxy import conf, daemon, logs, sockets, title
from gmproxy.errors import ConfigError, GmproxyError, StartError
from gmproxy.profiles import PROFILES

#: Descriptors to make room for where a pool sets no bound to its clients.
UNBOUNDED_CLIENTS = 65536


def main(arguments=None):
    """The command gmproxy."""
    return _command("gmproxy", "gmproxy", arguments)


def magent(arguments=None):
    """The command magent: the same program with magent's manners."""
    return _command("magent", "magent", arguments)


def _command(program, compat, arguments):
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        configs, actions = conf.parse(arguments, os.environ, program, compat)
        if "list_profiles" in actions:
            print("\n".join(f"{name:40} {profile.sentence}" for name, profile in PROFILES.items()))
        elif "test_conf" in actions:
            print(_verdict(program, configs))
        elif "print_config" in actions:
            print(conf.describe(configs))
        elif "demo" in actions:
            from gmproxy import demo
            demo.run(configs[0], program)
        else:
            title.drop_interpreter()
            _serve(configs, program)
    except GmproxyError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 1
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


def _serve(configs, program):
    bound = sockets.bind_all(configs)
    in_background = goes_to_background(configs[0])
    if not in_background:
        _run(configs, bound, in_background, _announce(bound, program))
        return
    waiting = [daemon.go_to_background()]

    def ready(message="ready"):
        if waiting:
            daemon.report(waiting.pop(), message)

    try:
        _run(configs, bound, in_background, ready)
    except GmproxyError as error:
        ready(f"{program}: {error}\n")
    except BaseException as error:
        ready(f"{program}: {type(error).__name__}: {error}\n")
        raise


def _run(configs, bound, in_background, ready):
    """Become the serving process and serve."""
    config = configs[0]  # every pool's knows what holds for the process
    own = daemon.SPARE_DESCRIPTORS + sum(
        pool.server_connections * (len(pool.server) + len(pool.backup)) for pool in configs)
    clients = sum(pool.max_connections for pool in configs)
    unbounded = UNBOUNDED_CLIENTS if any(pool.max_connections == 0 for pool in configs) else 0
    limit = daemon.allow_descriptors(own + clients + unbounded)
    if config.pid_file:
        daemon.write_pid_file(config.pid_file)
    try:
        daemon.become(config.user, config.group)
        logs.set_up(config, in_background)
        try:
            from gmproxy import worker  # only here: gevent must not begin before the fork
        except ImportError as error:
            raise StartError(f"user {config.user or os.getuid()} cannot load the program: {error}") from None
        if limit < own + clients:
            worker.log.warning("limit of open files is low limit=%d wanted=%d", limit, own + clients)
        worker.serve(configs, bound, max(limit - own, 1), ready)
    finally:
        sockets.remove_files(configs)
        if config.pid_file:
            daemon.remove_pid_file(config.pid_file)


def _announce(bound, program):
    places = ", ".join(sockets.name_of(sock) for pool in bound for sock in pool)

    def ready():
        print(f"{program}: serving on {places}", file=sys.stderr, flush=True)

    return ready
