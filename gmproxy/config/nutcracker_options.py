"""The command line of nutcracker 0.5 (twemproxy): its options, its errors, and the equivalent options of gmproxy.

It is that of the command nutcracker and of `gmproxy --compat nutcracker`. Defaults are those of Debian's nutcracker. Options of gmproxy are
accepted in addition, by their full long names, such as --workers=2.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from gmproxy import __version__
from gmproxy.compiled import BUILD
from gmproxy.config.settings import SETTINGS, Setting, option_name
from gmproxy.config.values import yes_or_no
from gmproxy.errors import ConfigError
from gmproxy.protocol.numbers import plain_number

VERSION = "0.5.0"

CONF_FILE = "/etc/nutcracker/nutcracker.yml"
LOG_FILE = "/var/log/nutcracker/nutcracker.log"
PID_FILE = "/run/nutcracker/nutcracker.pid"  # in the background
STATS_ADDRESS, STATS_PORT = "0.0.0.0", 22222

#: Bytes of an mbuf.
MIN_MBUF, MAX_MBUF = 512, 16 << 20

#: Exit status for any error.
FAILED = 1

USAGE = "\r\n".join(
    (
        "Usage: nutcracker [-?hVdDt] [-v verbosity level] [-o output file]",
        "                  [-c conf file] [-s stats port] [-a stats addr]",
        "                  [-i stats interval] [-p pid file] [-m mbuf size]",
        "\nOptions:",
        "  -h, --help             : this help",
        "  -V, --version          : show version and exit",
        "  -t, --test-conf        : test configuration for syntax errors and exit",
        "  -d, --daemonize        : run as a daemon",
        "  -D, --describe-stats   : print stats description and exit\n"
        "  -v, --verbose=N        : set logging level (default: 5, min: 0, max: 11)",
        f"  -o, --output=S         : set logging file (default: {LOG_FILE})",
        f"  -c, --conf-file=S      : set configuration file (default: {CONF_FILE})",
        f"  -s, --stats-port=N     : set stats monitoring port (default: {STATS_PORT})",
        f"  -a, --stats-addr=S     : set stats monitoring ip (default: {STATS_ADDRESS})",
        "  -i, --stats-interval=N : set stats aggregation interval in msec (default: 30000 msec)",
        f"  -p, --pid-file=S       : set pid file (default: {PID_FILE})",
        "  -m, --mbuf-size=N      : set size of mbuf chunk in bytes (default: 16384 bytes)",
        "\n",
    )
)

STATS_DESCRIPTION = """\
pool stats:
  client_eof          "# eof on client connections"
  client_err          "# errors on client connections"
  client_connections  "# active client connections"
  server_ejects       "# times backend server was ejected"
  forward_error       "# times we encountered a forwarding error"
  fragments           "# fragments created from a multi-vector request"

server stats:
  server_eof          "# eof on server connections"
  server_err          "# errors on server connections"
  server_timedout     "# timeouts on server connections"
  server_connections  "# active server connections"
  server_ejected_at   "timestamp when server was ejected in usec since epoch"
  requests            "# requests"
  request_bytes       "total request bytes"
  responses           "# responses"
  response_bytes      "total response bytes"
  in_queue            "# requests in incoming queue"
  in_queue_bytes      "current request bytes in incoming queue"
  out_queue           "# requests in outgoing queue"
  out_queue_bytes     "current request bytes in outgoing queue"
"""

#: {long option: short option}. Those in VALUES take a value, which error messages describe by these words.
LONG = {
    "help": "h",
    "version": "V",
    "test-conf": "t",
    "daemonize": "d",
    "describe-stats": "D",
    "verbose": "v",
    "output": "o",
    "conf-file": "c",
    "stats-port": "s",
    "stats-interval": "i",
    "stats-addr": "a",
    "pid-file": "p",
    "mbuf-size": "m",
}
VALUES = {
    "o": "a file name",
    "c": "a file name",
    "p": "a file name",
    "m": "a number",
    "v": "a number",
    "s": "a number",
    "i": "a number",
    "a": "a string",
}

#: Options of gmproxy that are accepted in addition to nutcracker's: {long name without dashes: Setting, or None for other options}.
OUR_ACTIONS = ("print-config", "config")
OURS: dict[str, Setting | None] = {option_name(setting)[2:]: setting for setting in SETTINGS.values()} | dict.fromkeys(OUR_ACTIONS)


class UsageError(ConfigError):
    """The command line is wrong: nutcracker prints its usage after the error."""


@dataclasses.dataclass
class CommandLine:
    """
    switches   short options without a value that were given
    values     {short option: its last value}
    ours       arguments for gmproxy
    """

    switches: set[str] = dataclasses.field(default_factory=set)
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    ours: list[str] = dataclasses.field(default_factory=list)

    @property
    def conf_file(self) -> str:
        return self.values.get("c", CONF_FILE)

    @property
    def is_test(self) -> bool:
        return "t" in self.switches

    def information(self) -> str | None:
        """The text to print if the command line asks for information instead of serving, else None."""
        if not self.switches & set("hVD"):
            return None
        text = f"This is nutcracker-{VERSION}\nasync event backend: epoll\n\n"
        if "h" in self.switches:
            text += USAGE
        if "D" in self.switches:
            text += STATS_DESCRIPTION
        return f"{text}gmproxy {__version__} ({BUILD} build) in place of nutcracker; its own long options may be added: gmproxy --help\n"

    def for_gmproxy(self) -> list[str]:
        """The equivalent arguments of gmproxy."""
        host = self.values.get("a", STATS_ADDRESS)
        host = f"[{host}]" if ":" in host else host
        arguments = ["--compat=nutcracker", f"--pools={self.conf_file}", f"--stats-port={host}:{self.values.get('s', STATS_PORT)}"]
        arguments.append(f"--log-file={self.values.get('o', LOG_FILE)}")
        pid_file = self.values.get("p", PID_FILE if "d" in self.switches else "")
        arguments += [f"--pid-file={pid_file}"] if pid_file else []
        arguments += ["--daemon"] if "d" in self.switches else []
        arguments += ["--test-conf"] if "t" in self.switches else []
        if "v" in self.values:
            arguments.append(f"--log-level={level_name(int(self.values['v']))}")
        return arguments + self.ours


def level_name(verbosity: int) -> str:
    """The log level that corresponds to nutcracker's `verbosity`, 0 to 11. Its notice and info are both info."""
    return "error" if verbosity < 4 else "warning" if verbosity == 4 else "info" if verbosity < 7 else "debug"


def compat_of(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """(the emulated program by command line, environment or program name, in this order of precedence; `arguments` without
    --compat nutcracker)."""
    rest = list(arguments)
    for number, word in enumerate(rest):
        if word == "--":
            break
        if word == "--compat" and rest[number + 1 : number + 2] == ["nutcracker"]:
            return "nutcracker", rest[:number] + rest[number + 2 :]
        if word == "--compat=nutcracker":
            return "nutcracker", rest[:number] + rest[number + 1 :]
        if word.partition("=")[0] == "--compat":  # another program: `program` reads that itself
            return program, rest
    return (environment.get("GMPROXY_COMPAT") or program), rest


def read(arguments: Sequence[str]) -> CommandLine:
    """Parse as nutcracker's getopt_long does: operands are ignored, long names can be abbreviated, the last of repeated options counts.
    Raises UsageError."""
    found = CommandLine()
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word.startswith("--"):
            _read_long(word[2:], words, found)
        elif word.startswith("-") and len(word) > 1:
            _read_short(word[1:], words, found)
    for option, check in _CHECKS.items():
        if option in found.values:
            check(found.values[option])
    return found


def _read_long(text: str, words: Iterator[str], found: CommandLine) -> None:
    name, equals, value = text.partition("=")
    alike = [name] if name in LONG else [long for long in LONG if long.startswith(name)]
    if name in OURS and name not in LONG:
        _read_ours(name, equals, value, words, found)
        return
    if len(alike) != 1:
        raise UsageError(f"invalid option -- '--{name}'")
    option = LONG[alike[0]]
    if option not in VALUES:
        if equals:
            raise UsageError(f"invalid option -- '{option}'")
        found.switches.add(option)
    else:
        found.values[option] = value if equals else _value_of(option, words)


def _read_ours(name: str, equals: str, value: str, words: Iterator[str], found: CommandLine) -> None:
    setting = OURS[name]
    is_switch = name == "print-config" or setting is not None and setting.parse is yes_or_no and setting.default == "no"
    found.ours.append(f"--{name}{equals}{value}")
    if not is_switch and not equals:
        rest = next(words, None)
        if rest is None:
            raise UsageError(f"option --{name} requires a value")
        found.ours[-1] += f"={rest}"


def _read_short(letters: str, words: Iterator[str], found: CommandLine) -> None:
    while letters:
        option, letters = letters[0], letters[1:]
        if option in VALUES:
            found.values[option] = letters or _value_of(option, words)
            return
        if option not in LONG.values():
            raise UsageError(f"invalid option -- '{option}'")
        found.switches.add(option)


def _value_of(option: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise UsageError(f"option -{option} requires {VALUES[option]}")
    return value


def _number(option: str, text: str, what: str = "a number") -> int:
    number = plain_number(text)
    if number is None:
        raise UsageError(f"option -{option} requires {what}")
    return number


def _check_port(text: str) -> None:
    port = _number("s", text)
    if not 1 <= port <= 65535:
        raise UsageError(f"option -s value {port} is not a valid port")


def _check_mbuf_size(text: str) -> None:
    size = _number("m", text, "a non-zero number")
    if not size:
        raise UsageError("option -m requires a non-zero number")
    if not MIN_MBUF <= size <= MAX_MBUF:
        raise UsageError(f"mbuf chunk size must be between {MIN_MBUF} and {MAX_MBUF} bytes")


_CHECKS: dict[str, Callable[[str], object]] = {
    "v": lambda text: _number("v", text),
    "s": _check_port,
    "i": lambda text: _number("i", text),
    "m": _check_mbuf_size,
}
