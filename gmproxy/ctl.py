"""gmproxyctl: commands of an operator to the running service, over its control socket.

Exit status: 0 fine, 1 the service is not there or says no, or keys do not match (route --check), 2 what was typed makes no sense,
3 a server is down (status).
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence

from gmproxy.console import actions, queries, route, status, top
from gmproxy.console.service_client import DEFAULT_PATH, ServiceError
from gmproxy.errors import ConfigError, GmproxyError
from gmproxy.system import bootstrap

USAGE = f"""usage: gmproxyctl COMMAND [ARGUMENT...] [--control PATH | -c FILE] [--json]

What is:
  gmproxyctl status                    the service, its pools and servers; exit status 3 if a server is down
  gmproxyctl top                       the same live, in rates; q ends it, space holds it
  gmproxyctl stats                     what "stats" tells a client
  gmproxyctl route --control PATH KEY...    where the service sends keys at this moment
  gmproxyctl hotkeys [SECONDS]         which keys are asked for most, in a sample
  gmproxyctl slow                      the slowest of the latest slow requests
  gmproxyctl tail [COUNT [SECONDS]]    a sample of the requests that come

What is to be:
  gmproxyctl eject SERVER...           leave a server, by address or name, alone until it is restored
  gmproxyctl restore SERVER...         use it again as soon as it answers
  gmproxyctl reload                    read the configuration again
  gmproxyctl log-level [LEVEL]         log so much from now on: debug, info, warning or error
  gmproxyctl drain                     accept nobody new, and let clients leave

  --control PATH   the control socket of the service; else GMPROXY_CONTROL, the setting control in the file given
                   with -c, or {DEFAULT_PATH}
  --json           the answer as JSON
  --pool NAME      the pool meant, where there are several (status, top, stats, route)
  --interval S     seconds between two looks (top)
  --count N        end after so many looks (top)

Without a running service:
  gmproxyctl route KEY... [--pool NAME] [options of gmproxy]
  gmproxyctl route --check FILE.json [options of gmproxy]

  --check FILE     FILE is JSON with "servers" (list) and "keys" (key -> index into servers), and perhaps "weights", "names",
                   "keys_b64" (base64 of keys that are no text), "backups", "backup_keys", "backup_keys_b64". Servers come
                   from it unless -s is given. Prints how many keys match.
"""

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "status": status.status,
    "top": top.top,
    "stats": queries.stats,
    "route": route.route,
    "hotkeys": queries.hotkeys,
    "slow": queries.slow,
    "tail": queries.tail,
    "eject": actions.eject,
    "restore": actions.restore,
    "reload": actions.reload,
    "log-level": actions.log_level,
    "drain": actions.drain,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of `arguments`, by default those of the process. Returns the exit status."""
    if arguments is None:
        arguments = sys.argv[1:]
        bootstrap.open_standard_descriptors()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)  # by an exception, so that `top` leaves the terminal as it was
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE, end="")
            status_code = 0 if arguments else 2
        elif arguments[0] in COMMANDS:
            status_code = COMMANDS[arguments[0]](arguments[1:])
        else:
            raise ConfigError(f"there is no command {arguments[0]!r}: see gmproxyctl --help")
        sys.stdout.flush()
        return status_code
    except GmproxyError as error:
        with contextlib.suppress(OSError):  # a dead stderr does not change the exit status
            print(f"gmproxyctl: {error}", file=sys.stderr, flush=True)
        return 1 if isinstance(error, ServiceError) else 2
    except BrokenPipeError:
        bootstrap.discard_output()
        return 0
    except KeyboardInterrupt:
        return 130  # as of a program that SIGINT ended


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
