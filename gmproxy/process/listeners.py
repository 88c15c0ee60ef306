"""The listening sockets of the service, by address: those bound here, and those passed to this process.

An address is written `127.0.0.1:11211`, `[::1]:11211` or `/path`. Sockets are passed by systemd (socket activation), or by the predecessor
at an upgrade (SIGUSR2); the kernel goes on queueing connections in them, so no client is refused.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any

from gmproxy.config.configuration import Config
from gmproxy.errors import StartError
from gmproxy.system import control_socket, daemon, sockets

#: The environment variable that describes to a successor the descriptors passed to it, as JSON.
HANDED_OVER = "GMPROXY_HANDED_OVER"

#: Maximum number of connections that wait to be accepted at an admin address.
ADMIN_BACKLOG = 64

#: The first descriptor that systemd passes (SD_LISTEN_FDS_START).
FIRST_DESCRIPTOR = 3


class ListeningSockets:
    """Binds, passes on and closes the listening sockets.

    sockets       {address: listening socket}
    activated     True if they were passed by systemd; a pool without a name then listens on these instead of the configured addresses
    control       the control socket, or None
    report_to     descriptor of the pipe on which the predecessor waits for the start report, or None
    predecessor   pid of the process that this one replaces, or None
    shared        {name: descriptor} of what the predecessor shared with its workers (gmproxy.process.service_memory)
    pid_keeper    (path of the pid file, descriptor of its PidKeeper) from the predecessor, or None
    switched_off  what operators have switched off in the predecessor for good (gmproxy.process.switches)

    Used in the master, or in a single process in greenlets. `bind_new` may look up a host name and block for it; nothing else blocks.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take over the descriptors that `environment` describes, and remove the variables: child processes must not see them. Raises
        StartError if a descriptor is not a listening socket."""
        self.sockets: dict[str, socket.socket] = {}
        self.activated = False
        self.control: socket.socket | None = None
        self._control_path = ""
        self._not_removed: set[str] = set()  # addresses of unix sockets whose files are not this process's to remove
        self.report_to: int | None = None
        self.predecessor: int | None = None
        self.pid_keeper: tuple[str, int] | None = None
        self.shared: dict[str, int] = {}
        self.switched_off: list[list[str]] = []
        handed_over = environment.pop(HANDED_OVER, "")
        names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
        owner, count, _ = (environment.pop(name, "") for name in names)
        if handed_over:
            self._take_over(json.loads(handed_over))
        elif owner == str(os.getpid()) and count.isdigit():
            self.activated = int(count) > 0
            for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
                sock = _adopt(descriptor)
                self.sockets[sockets.address_of(sock)] = sock
        self._not_removed.update(self.sockets)
        if self.control is not None:
            self._not_removed.add(self._control_path)

    def become_owner(self) -> None:
        """This process serves: from now on it removes the socket files made by its predecessor."""
        if not self.activated:
            self._not_removed.clear()
        elif self.control is not None:
            self._not_removed.discard(self._control_path)

    def _take_over(self, description: dict[str, Any]) -> None:
        """`description`: written by the predecessor in `handing_over`."""
        self.activated = description["activated"]
        self.report_to = description["report_to"]
        self.predecessor = description["pid"]
        os.set_inheritable(description["report_to"], False)
        if description.get("pid_keeper"):
            path, descriptor = description["pid_keeper"]
            os.set_inheritable(descriptor, False)
            self.pid_keeper = path, descriptor
        self.shared = description.get("shared", {})  # version 0.1.0 does not send it
        self.switched_off = description.get("switched_off", [])  # nor this
        for address, descriptor in description["sockets"].items():
            self.sockets[address] = _adopt(descriptor)
        if description["control"] is not None:
            self.control = _adopt(description["control"])
            # The kernel may know it by another name (sockets.bind_unix). Version 0.1.0 does not send the path.
            self._control_path = description.get("control_path") or self.control.getsockname()

    def addresses_of(self, config: Config) -> list[str]:
        """The addresses at which clients of the pool `config` connect."""
        if self.activated and not config.name:
            return [address for address in self.sockets if address not in sockets.admin_addresses(config)]
        return sockets.listen_addresses(config)

    def all_addresses(self, configs: Sequence[Config]) -> dict[str, list[str]]:
        """{name of a pool: those of its addresses that are open}. While the service drains, none is."""
        return {config.name: [address for address in self.addresses_of(config) if address in self.sockets] for config in configs}

    def bind_new(self, configs: Sequence[Config]) -> dict[str, socket.socket]:
        """Bind the addresses of `configs` that are not bound yet. Returns {address: new socket}. Raises StartError if one cannot be bound; then
        none of them stays open. May block for the name service."""
        new: dict[str, socket.socket] = {}
        try:
            for config in configs:
                for address in self.addresses_of(config):
                    if address in self.sockets:
                        self.sockets[address].listen(config.backlog)  # the backlog may have changed
                    elif address not in new:
                        with _naming(config, "unix_socket" if address == config.unix_socket else "listen"):
                            new[address] = sockets.bind(config, address)
            for address in sockets.admin_addresses(configs[0]):
                if address not in self.sockets and address not in new:
                    with _naming(None, "admin" if address == configs[0].admin else "stats_port"):
                        new[address] = _bind_for_admin(configs[0], address)
        except BaseException:
            for address, sock in new.items():
                self._close(address, sock)
            raise
        self.sockets.update(new)
        return new

    def discard(self, new: Iterable[str]) -> None:
        """Undo `bind_new`, which returned `new`."""
        for address in new:
            self._close(address, self.sockets.pop(address))

    def unused(self, configs: Sequence[Config]) -> list[str]:
        """The addresses of open sockets that `configs` do not use."""
        used = {*sockets.admin_addresses(configs[0]), *(address for config in configs for address in self.addresses_of(config))}
        return [address for address in self.sockets if address not in used]

    def close_unused(self, configs: Sequence[Config]) -> None:
        """Close the sockets that `configs` do not use."""
        for address in self.unused(configs):
            self._close(address, self.sockets.pop(address))

    def _close(self, address: str, sock: socket.socket) -> None:
        """Close `sock`, and remove its file if it is a unix socket of this process."""
        sock.close()
        if address not in self._not_removed:
            sockets.remove_unix_socket(address)

    def close_to_clients(self, config: Config) -> None:
        """Close all sockets except those at the admin addresses of `config`."""
        for address in set(self.sockets) - set(sockets.admin_addresses(config)):
            self._close(address, self.sockets.pop(address))

    def open_control(self, path: str, owner: tuple[int, int]) -> None:
        """Open the control socket at `path`, unless the predecessor passed one. `owner`: user and group id, as for sockets.bind_unix. Raises
        StartError."""
        if self.control is None:
            with _naming(None, "control"):
                self.control = control_socket.listen(path, owner)
            self._control_path = path

    def close(self, successor: bool = False) -> None:
        """Close all sockets. With a `successor`, which has copies of them, their files stay."""
        if self.control is not None:
            self.sockets[self._control_path] = self.control
        if successor:
            self._not_removed.update(self.sockets)
        for address, sock in self.sockets.items():
            self._close(address, sock)
        self.sockets = {}
        self.control = None

    @contextlib.contextmanager
    def handing_over(
        self,
        report_to: int,
        pid_keeper: tuple[str, int] | None = None,
        shared: Mapping[str, int] = MappingProxyType({}),
        switched_off: Sequence[Sequence[str]] = (),
    ) -> Iterator[dict[str, str]]:
        """Make the sockets inheritable inside of the `with`. Yields the environment variable, as a dict, by which the process started there takes
        them over. It sends its start report to the descriptor `report_to`. `pid_keeper`, `shared`, `switched_off`: as the
        attributes."""
        descriptors = {address: sock.fileno() for address, sock in self.sockets.items()}
        control = self.control.fileno() if self.control else None
        description = {
            "sockets": descriptors,
            "control": control,
            "control_path": self._control_path,
            "activated": self.activated,
            "report_to": report_to,
            "pid": os.getpid(),
            "pid_keeper": pid_keeper,
            "shared": dict(shared),
            "switched_off": [*map(list, switched_off)],
        }
        inherited = (
            [report_to, *descriptors.values(), *shared.values()]
            + ([control] if control is not None else [])
            + ([pid_keeper[1]] if pid_keeper else [])
        )
        try:
            for descriptor in inherited:
                os.set_inheritable(descriptor, True)
            yield {HANDED_OVER: json.dumps(description)}
        finally:
            for descriptor in inherited:
                os.set_inheritable(descriptor, False)


@contextlib.contextmanager
def _naming(pool: Config | None, setting: str) -> Iterator[None]:
    """Prefix a StartError with the setting that the address is from, and with the name of the pool if it has one."""
    try:
        yield
    except StartError as error:
        source = f"pool {pool.name}: {setting}" if pool is not None and pool.name else setting
        raise StartError(f"{source}: {error}") from None


def _bind_for_admin(config: Config, address: str) -> socket.socket:
    if address.startswith("/"):
        return control_socket.listen(address, daemon.user_ids(config.user, config.group))
    host, _, port = address.rpartition(":")
    return sockets.bind_tcp(host, int(port), ADMIN_BACKLOG)


def _adopt(descriptor: int) -> socket.socket:
    """The listening socket with this inherited descriptor. Raises StartError if it is none."""
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"the file descriptor {descriptor} passed to this process is not a socket: {error.strerror}") from None
    if not listens:
        raise StartError(f"the file descriptor {descriptor} passed to this process is not a listening stream socket")
    sock.setblocking(False)
    return sock
