"""The running service: where its control socket is, and how commands are sent to it."""

import argparse
import grp
import json
import os
import pwd
from collections.abc import Collection, Mapping
from typing import Any

from gmproxy.config import configuration
from gmproxy.config.command_line import parser_for
from gmproxy.errors import ConfigError, GmproxyError
from gmproxy.system import control_socket

#: Where the packaged service has its control socket.
DEFAULT_PATH = "/run/gmproxy/gmproxy.control"

#: Seconds within which the service answers, beside what a command asks it to wait.
RESPONSE_TIMEOUT = 10.0


class ServiceError(GmproxyError):
    """The service is not there, or says no (exit status 1)."""


class NoServiceError(ServiceError):
    """Nobody listens at the control socket."""


class NoControlSocketError(ConfigError):
    """The configuration of the service sets no control socket."""


class ServiceClient:
    """The service at the control socket `path`. `origin`: who says that it is there, for messages."""

    def __init__(self, path: str, origin: str = "--control") -> None:
        self.path = path
        self.origin = origin

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> "ServiceClient":
        """The one meant by the `arguments` of a CommandParser, and by the environment. Raises ConfigError."""
        return cls.find(arguments.control, arguments.config, environment)

    @classmethod
    def find(cls, control: str | None, config_file: str | None, environment: Mapping[str, str] = os.environ) -> "ServiceClient":
        """The one at `control`, or else in the environment, or in the configuration file, or at DEFAULT_PATH. Raises ConfigError."""
        if control:
            return cls(control)
        if environment.get("GMPROXY_CONTROL"):
            return cls(environment["GMPROXY_CONTROL"], "GMPROXY_CONTROL")
        file = config_file or environment.get("GMPROXY_CONFIG")
        return cls(_configured_path(file), f"control in {file}") if file else cls(DEFAULT_PATH, "the default")

    def send_command(self, command: str, *arguments: str, extra_time: float = 0.0) -> dict[str, Any]:
        """Send `command`, and wait for the response: RESPONSE_TIMEOUT and `extra_time` seconds at most. Raises ServiceError."""
        try:
            response = control_socket.send_command(self.path, command, *arguments, timeout=RESPONSE_TIMEOUT + extra_time)
        except TimeoutError:
            raise ServiceError(f"the service at {self.path} does not answer within {RESPONSE_TIMEOUT + extra_time:g} s") from None
        except PermissionError:
            raise ServiceError(f"no permission for {self.path}: {_owner(self.path)}") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoServiceError(
                f"no service at {self.path} ({self.origin}): is it running with control = {self.path}? "
                "For another socket: --control PATH, -c FILE or GMPROXY_CONTROL"
            ) from None
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "the connection was closed"
            raise ServiceError(f"no answer from {self.path}: {reason}") from None
        if "error" in response:
            raise ServiceError(response["error"])
        return response

    def fetch_report(self, pool: str | None = None) -> dict[str, Any]:
        """The report (see docs/monitoring.md), of one pool if it is named. Raises ServiceError, ConfigError."""
        report = self.send_command("report")
        check_pool(pool, report["pools"])
        if pool is not None:
            report["pools"] = {pool: report["pools"][pool]}
        return report


def check_pool(name: str | None, pools: Collection[str]) -> None:
    """Raises ConfigError if a pool is named that is none of `pools`, those of the service."""
    if name is not None and name not in pools:
        raise ConfigError(f"there is no pool {name!r}; known: {', '.join(pools)}")


def _configured_path(file: str) -> str:
    """Raises ConfigError."""
    path = configuration.read_arguments(parser_for("gmproxyctl"), ["-c", file], {})["control"]
    if not path:
        raise NoControlSocketError(f"{file} sets no control socket: say --control PATH")
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
