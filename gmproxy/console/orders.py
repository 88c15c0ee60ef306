"""What gmproxyctl tells the service to do. Each returns the exit status, and raises ConfigError, Refused."""

from gmproxy.console import units
from gmproxy.console.service import Parser, ServiceClient, print_json

LEVELS = ("debug", "info", "warning", "error")


def eject(arguments):
    given = _of_servers("eject", arguments)
    told = ServiceClient.of(given).ask("eject", *given.servers)
    return _say(given, told, f"ejected until restored: {', '.join(dict.fromkeys(told['ejected']))}")


def restore(arguments):
    given = _of_servers("restore", arguments)
    told = ServiceClient.of(given).ask("restore", *given.servers)
    restored = ", ".join(dict.fromkeys(told["restored"]))
    return _say(given, told, f"used again as soon as it answers a probe: {restored}" if restored else "was not ejected")


def drain(arguments):
    given = Parser("drain").parse_args(arguments)
    told = ServiceClient.of(given).ask("drain")
    return _say(given, told, f"nobody new is accepted; {units.count(told['clients'], 'client')} to leave")


def log_level(arguments):
    parser = Parser("log-level")
    parser.add_argument("level", nargs="?", choices=LEVELS)
    given = parser.parse_args(arguments)
    told = ServiceClient.of(given).ask("log-level", *filter(None, [given.level]))
    return _say(given, told, told["level"])


def reload(arguments):
    given = Parser("reload").parse_args(arguments)
    told = ServiceClient.of(given).ask("reload")
    lines = ["reloaded", *(f"{word}: {', '.join(told[word])}" for word in ("added", "removed") if told[word])]
    lines += [f"changed{f' in {pool}' if pool else ''}: {', '.join(names)}" for pool, names in told["changed"].items()]
    if told["needs_restart"]:
        lines.append(f"not before a restart: {', '.join(told['needs_restart'])}")
    return _say(given, told, "\n".join(lines))


def _of_servers(command, arguments):
    parser = Parser(command)
    parser.add_argument("servers", nargs="+", metavar="SERVER")
    return parser.parse_args(arguments)


def _say(given, told, words):
    if given.json:
        print_json(told)
    else:
        print(words)
    return 0
