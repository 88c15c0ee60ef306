"""The commands gmproxy and magent: arguments in, a serving process out.

Exit status: 0 fine, 1 the machine refuses (a port in use, an unknown user), 2 the configuration cannot be used.
"""

import os
import sys

from gmproxy import conf, daemon, logs, sockets
from gmproxy.errors import ConfigError, GmproxyError


def main(arguments=None):
    """The command gmproxy."""
    return _command("gmproxy", "gmproxy", arguments)


def magent(arguments=None):
    """The command magent: the same program with magent's manners."""
    return _command("magent", "magent", arguments)


def _command(program, compat, arguments):
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        config, actions = conf.parse(arguments, os.environ, program, compat)
        if "test_conf" in actions:
            print(f"{program}: configuration is valid: {len(config.server)} servers, {len(config.backup)} backups")
        elif "print_config" in actions:
            print(conf.describe(config))
        elif "demo" in actions:
            from gmproxy import demo
            demo.run(config, program)
        else:
            _serve(config, program)
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


def _serve(config, program):
    bound = sockets.bind_all(config)
    in_background = goes_to_background(config)
    if not in_background:
        _run(config, bound, in_background, _announce(bound, program))
        return
    pipe = daemon.go_to_background()
    waiting = [pipe]

    def ready(message="ready"):
        if waiting:
            daemon.report(waiting.pop(), message)

    try:
        _run(config, bound, in_background, ready)
    except GmproxyError as error:
        ready(f"{program}: {error}\n")
    except BaseException as error:
        ready(f"{program}: {type(error).__name__}: {error}\n")
        raise


def _run(config, bound, in_background, ready):
    """Become the serving process and serve."""
    wanted = config.max_connections + daemon.SPARE_DESCRIPTORS + config.server_connections * (
        len(config.server) + len(config.backup))
    limit = daemon.allow_descriptors(wanted)
    if config.pid_file:
        daemon.write_pid_file(config.pid_file)
    try:
        daemon.become(config.user, config.group)
        logs.set_up(config, in_background)
        from gmproxy import worker  # only here: gevent must not begin before the fork
        if limit < wanted:
            worker.log.warning("limit of open files is low limit=%d wanted=%d", limit, wanted)
        worker.serve(config, bound, ready)
    finally:
        if config.pid_file:
            daemon.remove_pid_file(config.pid_file)


def _announce(bound, program):
    places = ", ".join(sockets.name_of(sock) for sock in bound)

    def ready():
        print(f"{program}: serving on {places}", file=sys.stderr, flush=True)

    return ready
