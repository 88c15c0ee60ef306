"""Listening sockets, made with the plain socket module: they are bound before any fork, user change or gevent."""

import contextlib
import os
import socket
import stat
from typing import Any

from gmproxy.errors import StartError
from gmproxy.system import safe_files

#: Bytes of the path of a unix socket that clients can give to the kernel.
LONGEST_PATH = 107

#: Seconds for a connection to an existing unix socket, made to see if a process listens on it.
PROBE_TIMEOUT = 1


def listen_addresses(config: Any) -> list[str]:
    """Where clients of the pool `config` (a Config) connect: "127.0.0.1:11211", "[::1]:11211" or a path; each once, in the order given."""
    found = []
    if config.port:
        hosts = (host.strip().strip("[]") for host in config.listen.split(","))
        found = [f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}" for host in hosts]
    if config.unix_socket:
        found.append(config.unix_socket)
    return list(dict.fromkeys(found))


def admin_addresses(config: Any) -> list[str]:
    """Where metrics, health and the status page of the service are served; in the form of `listen_addresses`."""
    return [address for address in (config.admin, config.stats_port) if address]


def bind(config: Any, address: str) -> socket.socket:
    """A listening socket for one of the `listen_addresses` of `config`. Raises StartError."""
    if address == config.unix_socket:
        return bind_unix(address, config.backlog, config.unix_mode)
    host, _, port = address.rpartition(":")
    return bind_tcp(host, int(port), config.backlog)


def check_address(config: Any, address: str) -> None:
    """Look up the host name in one of the `listen_addresses` of `config`, without listening there. May wait for the name service. Raises
    StartError."""
    if address != config.unix_socket:
        host, _, port = address.rpartition(":")
        _look_up(host, int(port))


def _look_up(host: str, port: int) -> tuple[Any, ...]:
    """The first result of getaddrinfo. Raises StartError."""
    host = host.strip("[]")
    try:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(f"cannot listen on {host!r}: {getattr(error, 'strerror', None) or error}") from None


def bind_tcp(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket at `host` ("" for all addresses) and `port`. Raises StartError."""
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
    """The listening unix socket at `path`. Raises StartError.

    mode    permissions in octal, "" for what the umask leaves
    owner   user and group number that get it; -1: as it is

    Root follows no link of another user, and changes nothing but the socket (gmproxy.system.safe_files).
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
    """In a directory where other users may write: create the socket in a directory that only we may enter, set its owner, and move it."""
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
    """Remove the unix socket at `address`, if that is a path. Another user may not be allowed to, which is no fault: the next start does it."""
    if address.startswith("/"):
        with contextlib.suppress(OSError), safe_files.parent(address) as (directory, name):
            if safe_files.kind(directory, name) == stat.S_IFSOCK:
                os.unlink(name, dir_fd=directory)


def _is_stale(directory: int, name: str, path: str) -> bool:
    """True if an earlier process left a socket at `name`. Raises StartError if a process listens on it, or it is not a socket."""
    found = safe_files.kind(directory, name)
    if found is None:
        return False
    if found != stat.S_IFSOCK:
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
    address = sock.getsockname()
    if isinstance(address, tuple):
        return f"[{address[0]}]:{address[1]}" if sock.family == socket.AF_INET6 else f"{address[0]}:{address[1]}"
    return address
