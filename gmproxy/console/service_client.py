"""The running service: where its control socket is, and how commands are sent to it."""

import argparse
import grp
import json
import os
import pwd
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from gmproxy.config import configuration
from gmproxy.errors import ConfigError, GmproxyError
from gmproxy.system import control_socket

#: Where the packaged service has its control socket.
DEFAULT_PATH = "/run/gmproxy/gmproxy.control"

#: Seconds within which the service answers, beside what a command asks it to wait.
RESPONSE_TIMEOUT = 10.0


Number = TypeVar("Number", int, float)


class ServiceError(GmproxyError):
    """The service is not there, or says no (exit status 1)."""


class CommandParser(argparse.ArgumentParser):
    """The arguments of a command that is sent to the service."""

    def __init__(self, command: str) -> None:
        super().__init__(f"gmproxyctl {command}", add_help=False, allow_abbrev=False)
        self.add_argument("--control", metavar="PATH")
        self.add_argument("-c", "--config", metavar="FILE")
        self.add_argument("--json", action="store_true")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}: see gmproxyctl --help")


def _number(kind: Callable[[str], Number], what: str) -> Callable[[Number, Number], Callable[[str], Number]]:
    """f(least, most) returns what parses such numbers, for a CommandParser."""

    def between(least: Number, most: Number) -> Callable[[str], Number]:
        def parse(text: str) -> Number:
            refusal = argparse.ArgumentTypeError(f"{text!r} is not {what} from {least} to {most}")
            try:
                value = kind(text)
            except ValueError:
                raise refusal from None
            if not least <= value <= most:
                raise refusal
            return value

        return parse

    return between


seconds = _number(float, "a number of seconds")
whole = _number(int, "a whole number")


class ServiceClient:
    """The service at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> "ServiceClient":
        """The one meant by the `arguments` of a CommandParser, and by the environment. Raises ConfigError."""
        return cls(
            arguments.control or environment.get("GMPROXY_CONTROL") or _configured_path(arguments.config, environment) or DEFAULT_PATH
        )

    def send_command(self, command: str, *arguments: str, extra_time: float = 0.0) -> dict[str, Any]:
        """Send `command`, and wait for the response: RESPONSE_TIMEOUT and `extra_time` seconds at most. Raises ServiceError."""
        try:
            response = control_socket.send_command(self.path, command, *arguments, timeout=RESPONSE_TIMEOUT + extra_time)
        except TimeoutError:
            raise ServiceError(f"the service at {self.path} does not answer within {RESPONSE_TIMEOUT + extra_time:g} s") from None
        except PermissionError:
            raise ServiceError(f"no permission for {self.path}: {_owner(self.path)}") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise ServiceError(f"no service at {self.path}: is it running, with control = {self.path}? See --control and -c") from None
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "the connection was closed"
            raise ServiceError(f"no answer from {self.path}: {reason}") from None
        if "error" in response:
            raise ServiceError(response["error"])
        return response

    def fetch_report(self, pool: str | None = None) -> dict[str, Any]:
        """The report (see docs/monitoring.md), of one pool if it is named. Raises ServiceError, ConfigError."""
        report = self.send_command("report")
        if pool is not None:
            if pool not in report["pools"]:
                raise ConfigError(f"there is no pool {pool!r}; known: {', '.join(report['pools'])}")
            report["pools"] = {pool: report["pools"][pool]}
        return report


def _configured_path(config_file: str | None, environment: Mapping[str, str]) -> str | None:
    file = config_file or environment.get("GMPROXY_CONFIG")
    if not file:
        return None
    path = configuration.read_arguments(configuration.parser_for("gmproxyctl"), ["-c", file], {})["control"]
    if not path:
        raise ConfigError(f"{file} sets no control socket: say --control PATH")
    return path


def _owner(path: str) -> str:
    """Who may use the socket."""
    try:
        facts = os.stat(path)
        return f"it is for the user {pwd.getpwuid(facts.st_uid).pw_name} and the group {grp.getgrgid(facts.st_gid).gr_name}"
    except (OSError, KeyError):
        return "it is for the user and the group of the service"


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
