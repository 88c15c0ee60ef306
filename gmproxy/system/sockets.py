"""Creates listening sockets with the plain socket module: they are bound before the fork, the change of user and the import of gevent."""

import contextlib
import os
import socket
import stat
from typing import Any

from gmproxy.errors import StartError
from gmproxy.system import safe_files

#: Maximum length of the path of a unix socket in bytes (sun_path).
LONGEST_PATH = 107

#: Seconds to connect to an existing unix socket, which shows whether a process listens on it.
PROBE_TIMEOUT = 1


def listen_addresses(config: Any) -> list[str]:
    """The addresses at which clients of the pool `config` (a Config) connect: "127.0.0.1:11211", "[::1]:11211" or a path. Each is listed once,
    in the configured order."""
    addresses = []
    if config.port:
        hosts = (host.strip().strip("[]") for host in config.listen.split(","))
        addresses = [f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}" for host in hosts]
    if config.unix_socket:
        addresses.append(config.unix_socket)
    return list(dict.fromkeys(addresses))


def admin_addresses(config: Any) -> list[str]:
    """The addresses at which metrics, health and the status page are served, in the form of `listen_addresses`."""
    return [address for address in (config.admin, config.stats_port) if address]


def bind(config: Any, address: str) -> socket.socket:
    """A listening socket at `address`, one of the `listen_addresses` of `config`. May block for the name service. Raises StartError."""
    if address == config.unix_socket:
        return bind_unix(address, config.backlog, config.unix_mode)
    host, _, port = address.rpartition(":")
    return bind_tcp(host, int(port), config.backlog)


def check_address(config: Any, address: str) -> None:
    """Look up the host name in `address`, one of the `listen_addresses` of `config`, without listening. May block for the name service. Raises
    StartError."""
    if address != config.unix_socket:
        host, _, port = address.rpartition(":")
        _look_up(host, int(port))


def _look_up(host: str, port: int) -> tuple[Any, ...]:
    """The first result of getaddrinfo for `host` ("" for all addresses) and `port`. Raises StartError."""
    host = host.strip("[]")
    try:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(f"cannot listen on {host!r}: {getattr(error, 'strerror', None) or error}") from None


def bind_tcp(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket at `host` ("" for all addresses) and `port`, 0 for a free one. May block for the name service. Raises StartError."""
    host = host.strip("[]")
    family, kind, protocol, _, address = _look_up(host, port)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host in ("", "::") else 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return sock


def bind_unix(path: str, backlog: int, mode: str = "", owner: tuple[int, int] = (-1, -1)) -> socket.socket:
    """A listening unix socket at `path`. A socket file left by an ended process is replaced. Raises StartError.

    mode    permission bits in octal; "": those that the umask leaves
    owner   (user id, group id) of the socket file; -1: unchanged

    If this is root, no link of another user is followed, and no file but the socket is changed (gmproxy.system.safe_files).
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StartError(f"cannot listen on {path}: the path is longer than {LONGEST_PATH} bytes")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with safe_files.parent(path) as (directory, name):
            is_stale = _is_stale(directory, name, path)
            if os.geteuid() == 0 and not safe_files.is_safe(path):
                _bind_privately(sock, directory, name, mode, owner)
            else:
                if is_stale:
                    os.unlink(name, dir_fd=directory)
                sock.bind(path)
                _set_owner(directory, name, mode, owner)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {path}: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_privately(sock: socket.socket, directory: int, name: str, mode: str, owner: tuple[int, int]) -> None:
    """Bind in a directory that other users may write to: create the socket in a private directory, set its owner, and move it."""
    with safe_files.private_directory(directory) as (inside, _):
        sock.bind(f"{safe_files.OWN_DESCRIPTORS}{inside}/{name}")
        try:
            _set_owner(inside, name, mode, owner)
            os.rename(name, name, src_dir_fd=inside, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=inside)
            raise


def _set_owner(directory: int, name: str, mode: str, owner: tuple[int, int]) -> None:
    if mode:
        os.chmod(name, int(mode, 8), dir_fd=directory)
    if owner != (-1, -1):
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)


def remove_unix_socket(address: str) -> None:
    """Remove the unix socket at `address`, if that is a path. Never raises: if this user may not remove it, the next start replaces it."""
    if address.startswith("/"):
        with contextlib.suppress(OSError), safe_files.parent(address) as (directory, name):
            if safe_files.kind(directory, name) == stat.S_IFSOCK:
                os.unlink(name, dir_fd=directory)


def _is_stale(directory: int, name: str, path: str) -> bool:
    """True if `name` is a socket on which no process listens, False if it does not exist. Raises StartError if a process listens on it, or it
    is not a socket."""
    kind = safe_files.kind(directory, name)
    if kind is None:
        return False
    if kind != stat.S_IFSOCK:
        raise StartError(f"cannot listen on {path}: the file exists and is not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(PROBE_TIMEOUT)
        probe.connect(f"{safe_files.OWN_DESCRIPTORS}{directory}/{name}")
    except ConnectionRefusedError:
        return True
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        probe.close()
    raise StartError(f"cannot listen on {path}: Address already in use")


def address_of(sock: socket.socket) -> str:
    """The address at which `sock` listens, in the form of `listen_addresses`."""
    name: tuple[str, int] | tuple[str, int, int, int] | str = sock.getsockname()
    if isinstance(name, str):
        return name
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
