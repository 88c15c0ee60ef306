"""The listening sockets of the service, by place: those bound here, and those that were handed over.

A place is written `127.0.0.1:11211`, `[::1]:11211` or `/path`. Sockets are handed over by systemd (socket activation) or by the process
before this one, at an upgrade: then the kernel goes on queueing clients, and none is refused.
"""

import contextlib
import json
import os
import socket

from gmproxy.errors import StartError
from gmproxy.system import control_socket, daemon, sockets

#: The environment variable in which a process tells its successor what it hands over.
HANDED_OVER = "GMPROXY_HANDED_OVER"

#: Connections for metrics and the status page that may wait to be accepted.
ADMIN_BACKLOG = 64

#: The first descriptor that systemd hands over.
FIRST_DESCRIPTOR = 3


class ListeningSockets:
    """
    sockets     {place: listening socket}
    activated   True if systemd chose them; a service without named pools then listens on these, whatever its settings say
    control     the control socket, or None
    report_to   descriptor on which the process before this one waits to hear that we serve, or None
    predecessor its process number, or None
    """

    def __init__(self, environment):
        """Take over what `environment` tells of, and take that out of it: it does not concern our children. Raises StartError."""
        self.sockets = {}
        self.activated = False
        self.control = None
        self._control_path = ""
        self._not_ours = set()  # places whose files are for others to remove
        self.report_to = None
        self.predecessor = None
        told = environment.pop(HANDED_OVER, "")
        names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
        owner, count, _ = (environment.pop(name, "") for name in names)
        if told:
            self._take_over(json.loads(told))
        elif owner == str(os.getpid()) and count.isdigit():
            self.activated = int(count) > 0
            for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
                sock = _adopt(descriptor)
                self.sockets[sockets.name_of(sock)] = sock
        self._not_ours.update(self.sockets)
        if self.control is not None:
            self._not_ours.add(self._control_path)

    def become_owner(self):
        """We serve: from now on it is for us to remove the files that a predecessor made."""
        if not self.activated:
            self._not_ours.clear()
        elif self.control is not None:
            self._not_ours.discard(self._control_path)

    def _take_over(self, facts):
        self.activated = facts["activated"]
        self.report_to = facts["report_to"]
        self.predecessor = facts["pid"]
        os.set_inheritable(self.report_to, False)
        for place, descriptor in facts["sockets"].items():
            self.sockets[place] = _adopt(descriptor)
        if facts["control"] is not None:
            self.control = _adopt(facts["control"])
            # The name that the kernel knows may be another: see sockets.bind_unix. Version 0.1.0 does not tell it.
            self._control_path = facts.get("control_path") or self.control.getsockname()

    def of(self, config):
        """The places at which clients of the pool `config` connect."""
        if self.activated and not config.name:
            return [place for place in self.sockets if place not in sockets.for_admin(config)]
        return sockets.places(config)

    def of_all(self, configs):
        """{name of the pool: its places}"""
        return {config.name: self.of(config) for config in configs}

    def open(self, configs):
        """Bind what `configs` ask for and is not open yet. Returns that, {place: socket}. Raises StartError, with none of it left open."""
        new = {}
        try:
            for config in configs:
                for place in self.of(config):
                    if place in self.sockets:
                        self.sockets[place].listen(config.backlog)  # it may have another length now
                    elif place not in new:
                        new[place] = sockets.bind(config, place)
            for place in sockets.for_admin(configs[0]):
                if place not in self.sockets and place not in new:
                    new[place] = _bind_for_admin(configs[0], place)
        except BaseException:
            for place, sock in new.items():
                self._close(place, sock)
            raise
        self.sockets.update(new)
        return new

    def forget(self, new):
        """Take back what `open` returned."""
        for place in new:
            self._close(place, self.sockets.pop(place))

    def close_unused(self, configs):
        wanted = {*sockets.for_admin(configs[0]), *(place for config in configs for place in self.of(config))}
        for place in set(self.sockets) - wanted:
            self._close(place, self.sockets.pop(place))

    def _close(self, place, sock):
        sock.close()
        if place not in self._not_ours:
            sockets.remove_file(place)

    def close_to_clients(self, config):
        """Let no client in any more, but who looks after the service."""
        for place in set(self.sockets) - set(sockets.for_admin(config)):
            self._close(place, self.sockets.pop(place))

    def open_control(self, path, owner):
        """Listen for operators at `path`. Raises StartError."""
        if self.control is None:
            self.control = control_socket.listen(path, owner)
            self._control_path = path

    def close(self, successor=False):
        """Let nobody in any more. With a `successor`, who has the same sockets, their files stay."""
        if self.control is not None:
            self.sockets[self._control_path] = self.control
        if successor:
            self._not_ours.update(self.sockets)
        for place, sock in self.sockets.items():
            self._close(place, sock)
        self.sockets = {}
        self.control = None

    @contextlib.contextmanager
    def handing_over(self, report_to):
        """The environment variable, as a dict, that lets a process started inside of this `with` take over. It reports to the
        descriptor `report_to`."""
        facts = {
            "sockets": {place: sock.fileno() for place, sock in self.sockets.items()},
            "control": self.control and self.control.fileno(), "control_path": self._control_path,
            "activated": self.activated, "report_to": report_to, "pid": os.getpid(),
        }
        given = [report_to, *facts["sockets"].values()] + ([facts["control"]] if self.control else [])
        try:
            for descriptor in given:
                os.set_inheritable(descriptor, True)
            yield {HANDED_OVER: json.dumps(facts)}
        finally:
            for descriptor in given:
                os.set_inheritable(descriptor, False)


def _bind_for_admin(config, place):
    if place.startswith("/"):
        return control_socket.listen(place, daemon.owner(config.user, config.group))
    host, _, port = place.rpartition(":")
    return sockets.bind_tcp(host, int(port), ADMIN_BACKLOG)


def _adopt(descriptor):
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"descriptor {descriptor} was handed over and is no socket: {error.strerror}") from None
    if not listens:
        raise StartError(f"descriptor {descriptor} was handed over and is no listening stream socket")
    sock.setblocking(False)
    return sock
