"""The running service: where its control socket is, and how it is asked."""

import argparse
import grp
import json
import os
import pwd

from gmproxy.config import configuration
from gmproxy.errors import ConfigError, GmproxyError
from gmproxy.system import control_socket

#: Where the packaged service has its control socket.
DEFAULT_PATH = "/run/gmproxy/gmproxy.control"

#: The service answers within so many seconds, besides what it is asked to wait.
PATIENCE = 10.0


class Refused(GmproxyError):
    """The service is not there, or says no (exit status 1)."""


class Parser(argparse.ArgumentParser):
    """The arguments of a command that asks the service."""

    def __init__(self, command):
        super().__init__(f"gmproxyctl {command}", add_help=False, allow_abbrev=False)
        self.add_argument("--control", metavar="PATH")
        self.add_argument("-c", "--config", metavar="FILE")
        self.add_argument("--json", action="store_true")

    def error(self, message):
        raise ConfigError(f"{message}: see gmproxyctl --help")


def _number(kind, what):
    """f(least, most) gives what parses such numbers, for a Parser."""

    def between(least, most):
        def parse(text):
            try:
                value = kind(text)
            except ValueError:
                value = None
            if value is None or not least <= value <= most:
                raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {least} to {most}")
            return value

        return parse

    return between


seconds = _number(float, "a number of seconds")
whole = _number(int, "a whole number")


class ServiceClient:
    """The service at `path`."""

    def __init__(self, path):
        self.path = path

    @classmethod
    def of(cls, given, environment=os.environ):
        """The one meant by what a Parser was `given`, and by the environment. Raises ConfigError."""
        return cls(given.control or environment.get("GMPROXY_CONTROL") or _configured(given, environment) or DEFAULT_PATH)

    def ask(self, command, *arguments, patience=0.0):
        """Its answer, a dict; it is given `patience` seconds more than others. Raises Refused."""
        try:
            answer = control_socket.send_command(self.path, command, *arguments, timeout=PATIENCE + patience)
        except TimeoutError:
            raise Refused(f"the service at {self.path} does not answer within {PATIENCE + patience:g} s") from None
        except PermissionError:
            raise Refused(f"no permission for {self.path}: {_owner(self.path)}") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise Refused(f"no service at {self.path}: is it running, with control = {self.path}? See --control and -c") from None
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "the connection was closed"
            raise Refused(f"no answer from {self.path}: {reason}") from None
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def report(self, pool=None):
        """What it measures (see docs/monitoring.md), of one pool if it is named. Raises Refused, ConfigError."""
        report = self.ask("report")
        if pool is not None:
            if pool not in report["pools"]:
                raise ConfigError(f"there is no pool {pool!r}; known: {', '.join(report['pools'])}")
            report["pools"] = {pool: report["pools"][pool]}
        return report


def _configured(given, environment):
    file = given.config or environment.get("GMPROXY_CONFIG")
    if not file:
        return None
    path = configuration.read_arguments(configuration.parser_for("gmproxyctl"), ["-c", file], {})["control"]
    if not path:
        raise ConfigError(f"{file} sets no control socket: say --control PATH")
    return path


def _owner(path):
    """Who may use the socket."""
    try:
        facts = os.stat(path)
        return f"it is for the user {pwd.getpwuid(facts.st_uid).pw_name} and the group {grp.getgrgid(facts.st_gid).gr_name}"
    except (OSError, KeyError):
        return "it is for the user and the group of the service"


def print_json(answer):
    print(json.dumps(answer, indent=2))
