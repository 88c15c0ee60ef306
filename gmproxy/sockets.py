"""Listening sockets, made with the plain socket module: they are bound before any fork, user change or gevent."""

import contextlib
import os
import socket
import stat

from gmproxy.errors import StartError


def places(config):
    """Where clients of the pool `config` connect: "127.0.0.1:11211", "[::1]:11211" or a path; each once, in the order given."""
    found = []
    if config.port:
        hosts = (host.strip().strip("[]") for host in config.listen.split(","))
        found = [f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}" for host in hosts]
    if config.unix_socket:
        found.append(config.unix_socket)
    return list(dict.fromkeys(found))


def for_admin(config):
    """Where those connect who look after the service; as `places`."""
    return [place for place in (config.admin, config.stats_port) if place]


def bind(config, place):
    """The listening socket for one of the places of `config`. Raises StartError."""
    if place == config.unix_socket:
        return bind_unix(place, config.backlog, config.unix_mode)
    host, _, port = place.rpartition(":")
    return bind_tcp(host, int(port), config.backlog)


def bind_tcp(host, port, backlog):
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(f"cannot listen on {host!r}: {getattr(error, 'strerror', None) or error}") from None
    family, kind, protocol, _, address = found[0]
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


def bind_unix(path, backlog, mode=""):
    """`mode`: permissions in octal, "" for what the umask leaves."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        if mode:
            os.chmod(path, int(mode, 8))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {path}: {error.strerror or error}") from None
    return sock


def remove_file(place):
    """Leave no unix socket behind. Another user may not be allowed to, which is no fault: the next start does it."""
    if place.startswith("/"):
        with contextlib.suppress(OSError):
            os.unlink(place)


def _remove_stale(path):
    """A socket that an earlier process left behind is removed; one that somebody listens on is not."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise StartError(f"cannot listen on {path}: there is a file that is no socket")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1)
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror or error}") from None
    else:
        raise StartError(f"cannot listen on {path}: Address already in use")
    finally:
        probe.close()


def name_of(sock):
    """host:port or the path, for the log."""
    address = sock.getsockname()
    if isinstance(address, tuple):
        return f"[{address[0]}]:{address[1]}" if sock.family == socket.AF_INET6 else f"{address[0]}:{address[1]}"
    return address
