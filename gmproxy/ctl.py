"""gmproxyctl: sends operator commands to the running service over its control socket.

Exit status: 0 success; 1 the service is not running or refused the command, keys do not match (route --check) or are different (verify), or a
server is not flushed yet (owed --flush); 2 wrong usage; 3 a server is ejected (status).
"""

import argparse
import functools
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gmproxy import __version__
from gmproxy.compiled import BUILD
from gmproxy.config.suggestions import did_you_mean
from gmproxy.console import actions, owed, queries, refill, route, status, top, verify
from gmproxy.console.service_client import DEFAULT_PATH, ServiceError
from gmproxy.errors import ConfigError, GmproxyError
from gmproxy.system import bootstrap


class Command(NamedTuple):
    """`arguments` and `summary`: its line in the list of commands. `run(arguments)` returns the exit status; raises ConfigError, ServiceError."""

    arguments: str
    summary: str
    make_parser: Callable[[], argparse.ArgumentParser]
    run: Callable[[Sequence[str]], int]


#: Commands that show something.
QUERIES: dict[str, Command] = {
    "status": Command("", "state and counters of the service, its pools and servers", status.status_parser, status.status),
    "top": Command("", "live rates; q quits, space pauses", top.top_parser, top.top),
    "stats": Command("", 'the counters of "stats proxy"', queries.stats_parser, queries.stats),
    "servers": Command("", "names of the pools and servers, as the commands take them", queries.servers_parser, queries.servers),
    "route": Command(
        "KEY...", "the servers of keys: in the running service, or with given options of gmproxy", route.route_parser, route.route
    ),
    "hotkeys": Command("[SECONDS]", "the most frequent keys in a sample of requests", queries.hotkeys_parser, queries.hotkeys),
    "slow": Command("", "the slowest of the recent slow requests", queries.slow_parser, queries.slow),
    "tail": Command("[COUNT [SECONDS]]", "a sample of incoming requests", queries.tail_parser, queries.tail),
    "owed": Command("[SERVER]", "pending invalidations of the servers; --flush or --drop them", owed.owed_parser, owed.owed),
}
#: Commands that change something.
ACTIONS: dict[str, Command] = {
    "eject": Command("SERVER...", "send no requests to a server until it is restored", actions.eject_parser, actions.eject),
    "restore": Command("SERVER...", "probe an ejected server, and use it when the probe succeeds", actions.restore_parser, actions.restore),
    "reload": Command("", "reload the configuration", actions.reload_parser, actions.reload),
    "log-level": Command(
        "[LEVEL]", "print or set the log level: debug, info, warning or error", actions.log_level_parser, actions.log_level
    ),
    "fills": Command(
        "[on|off]", "print or switch the filling of servers from other sets, such as backups", actions.fills_parser, actions.fills
    ),
    "journal": Command("[on|off]", "print or switch the journal of pending invalidations", actions.journal_parser, actions.journal),
    "replica": Command("[NAME [on|off]]", "print or switch the use of the replica sets", actions.replica_parser, actions.replica),
    "refill": Command("[SERVER]", "fill a server from the other sets, or print the progress", refill.refill_parser, refill.refill),
    "verify": Command("", "compare primaries and their copies, delete on the copy what differs", verify.verify_parser, verify.verify),
    "drain": Command("", "accept no new clients, close each connection after its next reply", actions.drain_parser, actions.drain),
}
COMMANDS = QUERIES | ACTIONS


def _listed(commands: dict[str, Command]) -> str:
    return "\n".join(f"  gmproxyctl {f'{name} {command.arguments}':<25} {command.summary}" for name, command in commands.items())


USAGE = f"""usage: gmproxyctl COMMAND [ARGUMENT...] [--control PATH | -c FILE] [--json]

Show:
{_listed(QUERIES)}

Change:
{_listed(ACTIONS)}

Options, before or after the command:
  --control PATH   the control socket of the service. Default: GMPROXY_CONTROL, the setting control in the file given
                   with -c or GMPROXY_CONFIG, or {DEFAULT_PATH}
  --json           print the response as JSON
  --pool NAME      only this pool ({", ".join([*QUERIES, "verify"])})

  gmproxyctl help COMMAND   help for a command; also gmproxyctl COMMAND --help
  gmproxyctl --version      print the version

Exit status: 0 success, 1 the service is not running or refused the command, not all keys match (route --check), keys
are different (verify) or a server is not flushed yet (owed --flush), 2 wrong usage, 3 a server is ejected (status)

Without a running service:
  gmproxyctl route KEY... [--pool NAME] [options of gmproxy]
  gmproxyctl route --check FILE.json [options of gmproxy]

  --check FILE     compare with known placements and print how many keys match. FILE is JSON with "servers" (list) and
                   "keys" (key -> index into servers); optional: "weights", "names", "keys_b64" (base64 of keys that are
                   not text), "backups", "backup_keys", "backup_keys_b64". -s overrides the servers in FILE.
"""

HELP = ("-h", "--help")
VERSION = ("-V", "--version")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments`; None: those of the process. Returns the exit status."""
    if arguments is None:
        arguments = sys.argv[1:]
        bootstrap.open_standard_descriptors()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)  # exits by an exception, so that `top` restores the terminal
    try:
        status_code = _run(*_split(arguments))
        sys.stdout.flush()
        return status_code
    except GmproxyError as error:
        bootstrap.print_error(f"gmproxyctl: {error}\n")
        return 1 if isinstance(error, ServiceError) else 2
    except BrokenPipeError:
        bootstrap.discard_output()
        return 0
    except KeyboardInterrupt:
        return 130  # as a shell reports a program terminated by SIGINT


def _split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """(the command, or None if there is none; its arguments, after the options given before it)"""
    options: list[str] = []
    words = list(arguments)
    while words and words[0].startswith("-"):
        options.append(words.pop(0))
        if words and options[-1] in _options_with_value():
            options.append(words.pop(0))
    return (words[0], options + words[1:]) if words else (None, options)


@functools.cache
def _options_with_value() -> frozenset[str]:
    """The options of all commands that take a value: the word after one of them is not the command."""
    return frozenset(
        option
        for command in COMMANDS.values()
        for action in command.make_parser()._actions
        if action.nargs != 0
        for option in action.option_strings
    )


def _run(name: str | None, arguments: list[str]) -> int:
    before_end = arguments[: arguments.index("--")] if "--" in arguments else arguments
    wants_help = any(option in before_end for option in HELP)
    if name == "help" or (name is None and wants_help):
        name = next((word for word in arguments if not word.startswith("-")), None)
        print(USAGE if name is None else _command(name).make_parser().format_help(), end="")
    elif wants_help and name is not None:
        print(_command(name).make_parser().format_help(), end="")
    elif name is None and any(option in before_end for option in VERSION):
        print(f"gmproxyctl {__version__} ({BUILD} build)")
    elif name is not None:
        return _command(name).run(arguments)
    elif arguments:
        raise ConfigError(f"no command given with {arguments[0]}: see gmproxyctl --help")
    else:
        print(USAGE, end="")
        return 2
    return 0


def _command(name: str) -> Command:
    """Raises ConfigError."""
    if name not in COMMANDS:
        raise ConfigError(f"there is no command {name!r}{did_you_mean(name, COMMANDS) or ':'} see gmproxyctl --help")
    return COMMANDS[name]


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
