"""Sends control commands to the running service over its control socket."""

import argparse
import grp
import json
import os
import pwd
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from gmproxy import __version__
from gmproxy.config import configuration
from gmproxy.config.command_line import parser_for
from gmproxy.errors import ConfigError, GmproxyError
from gmproxy.system import control_socket

#: The control socket of the packaged service.
DEFAULT_PATH = "/run/gmproxy/gmproxy.control"

#: Seconds within which the service must reply, beside the seconds that a command takes itself.
RESPONSE_TIMEOUT = 10.0

#: Command -> the field that its response must have, and the type of this field.
RESPONSE_FIELDS: dict[str, tuple[str, type]] = {
    "report": ("pools", dict),
    "servers": ("servers", list),
    "stats": ("general", dict),
    "route": ("pools", dict),
    "hotkeys": ("keys", list),
    "slow": ("slow", list),
    "tail": ("requests", list),
    "eject": ("ejected", list),
    "restore": ("restored", list),
    "reload": ("changed", dict),
    "log-level": ("level", str),
    "drain": ("clients", int),
    "fills": ("fills", str),
    "journal": ("journal", str),
    "replica": ("replicas", list),
    "refill": ("refills", list),
    "refill-begin": ("refills", list),
    "refill-stop": ("refills", list),
    "verify": ("pools", dict),
    "owed": ("servers", list),
    "owed-flush": ("servers", list),
    "owed-drop": ("servers", list),
}


class ServiceError(GmproxyError):
    """The service is not running, or refused the command (exit status 1)."""


class NoServiceError(ServiceError):
    """No process listens at the control socket."""


class NoControlSocketError(ConfigError):
    """The configuration of the service sets no control socket."""


class ServiceClient:
    """Sends commands to the control socket `path`. `origin`: where this path was found, for error messages."""

    def __init__(self, path: str, origin: str = "--control") -> None:
        self.path = path
        self.origin = origin

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> "ServiceClient":
        """The client for the `arguments` of a CommandParser and the environment. Raises ConfigError."""
        return cls.find(arguments.control, arguments.config, environment)

    @classmethod
    def find(cls, control: str | None, config_file: str | None, environment: Mapping[str, str] = os.environ) -> "ServiceClient":
        """The client for `control`, else for the path in the environment or in the configuration file, else for DEFAULT_PATH. Raises ConfigError."""
        if control:
            return cls(control)
        if environment.get("GMPROXY_CONTROL"):
            return cls(environment["GMPROXY_CONTROL"], "GMPROXY_CONTROL")
        file = config_file or environment.get("GMPROXY_CONFIG")
        return cls(_configured_path(file), f"control in {file}") if file else cls(DEFAULT_PATH, "default")

    def send_command(self, command: str, *arguments: str, extra_time: float = 0.0) -> dict[str, Any]:
        """Send `command`, one of RESPONSE_FIELDS, and return the response. Blocks for up to RESPONSE_TIMEOUT + `extra_time` seconds. Raises
        ServiceError, also later if a field is read that the response does not have."""
        try:
            response = control_socket.send_command(self.path, command, *arguments, timeout=RESPONSE_TIMEOUT + extra_time)
        except TimeoutError:
            raise ServiceError(f"the service at {self.path} does not reply within {RESPONSE_TIMEOUT + extra_time:g} s") from None
        except PermissionError:
            raise ServiceError(f"no permission for {self.path}: {_owner(self.path)}") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoServiceError(
                f"no service at {self.path} ({self.origin}): check that it runs with control = {self.path}, "
                "or give another socket with --control PATH, -c FILE or GMPROXY_CONTROL"
            ) from None
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "the connection was closed"
            raise ServiceError(f"no reply from {self.path}: {reason}") from None
        if "error" in response:
            raise ServiceError(str(response["error"]))
        name, kind = RESPONSE_FIELDS[command]
        if not isinstance(response.get(name), kind):
            raise _unexpected(self.path, name)
        checked: dict[str, Any] = _checked(response, self.path)
        return checked

    def fetch_report(self, pool: str | None = None) -> dict[str, Any]:
        """The report (see docs/monitoring.md), reduced to `pool` unless that is None. Raises ServiceError, ConfigError."""
        report = self.send_command("report")
        check_pool(pool, report["pools"])
        if pool is not None:
            report["pools"] = {pool: report["pools"][pool]}
        return report


def check_pool(name: str | None, pools: Collection[str]) -> None:
    """Raises ConfigError if `name` is neither None nor one of `pools`, those of the service."""
    if name is not None and name not in pools:
        raise ConfigError(f"there is no pool {name!r}; known: {', '.join(pools)}")


class _Fields(dict[str, Any]):
    """An object of a response. Reading a field that it does not have raises ServiceError, not KeyError."""

    def __init__(self, path: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self._path = path

    def __missing__(self, name: str) -> NoReturn:
        raise _unexpected(self._path, name)


def _checked(value: Any, path: str) -> Any:
    """`value`, of a response from the control socket `path`, with _Fields for all objects in it."""
    if isinstance(value, dict):
        return _Fields(path, {name: _checked(each, path) for name, each in value.items()})
    return [_checked(each, path) for each in value] if isinstance(value, list) else value


def _unexpected(path: str, name: str) -> ServiceError:
    return ServiceError(f"unexpected reply from {path}: no field {name!r}. Is it the control socket of gmproxy {__version__}?")


def _configured_path(file: str) -> str:
    """Raises ConfigError."""
    path: str | None = configuration.read_arguments(parser_for("gmproxyctl"), ["-c", file], {})["control"]
    if not path:
        raise NoControlSocketError(f"{file} sets no control socket: set control there, or give --control PATH")
    return path


def _owner(path: str) -> str:
    """The users that may connect to the socket, for an error message."""
    try:
        facts = os.stat(path)
        return f"only root, the user {pwd.getpwuid(facts.st_uid).pw_name} and the group {grp.getgrgid(facts.st_gid).gr_name} may use it"
    except (OSError, KeyError):
        return "only root, the user and the group of the service may use it"


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    print(json.dumps(value, indent=2))
