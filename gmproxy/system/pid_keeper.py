"""A root process that keeps the pid file of a service whose user may not write in its directory, such as /run.

When such a service ends, it could not remove its pid file; nor could its successor write its own number there. So a process is forked while
the service is still root. It has nothing open but one end of a pair of sockets. Each message there concerns the process that sent it, as the
kernel reports (SCM_CREDENTIALS): nobody can have another number written or removed. When the service dies, the sockets close, and the
file is removed, too.
"""

import contextlib
import os
import socket
import struct
from typing import NoReturn

from gmproxy.errors import StartError
from gmproxy.system import bootstrap, daemon, proctitle, safe_files

#: Messages: write the number of the sender; remove the file, if it has the number of the sender.
WRITE, REMOVE = b"write", b"remove"

#: The reply if all went well; else it is the text of the error.
DONE = b"done"

#: Seconds within which the keeper must reply.
REPLY_TIMEOUT = 5.0

#: Bytes of a message or reply.
LONGEST = 512

TITLE = "gmproxy-pid-file"

#: pid, user and group of a sender.
_CREDENTIALS = struct.Struct("3i")


def is_needed(path: str, user: str, group: str) -> bool:
    """True if root is to become `user` and `group`, who may not remove a file of root's at `path`. Raises StartError."""
    if os.getuid() != 0 or not (user or group):
        return False
    with daemon.acting_as(user, group):
        try:
            with safe_files.parent(path) as (directory, _):
                return not safe_files.may_remove(directory)
        except OSError:
            return True


class PidKeeper:
    """The service's end. `path`: the pid file. `descriptor`: of the socket, for a successor."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._sock = socket.socket(fileno=descriptor)
        self._sock.settimeout(REPLY_TIMEOUT)

    @classmethod
    def start(cls, path: str) -> "PidKeeper":
        """Fork the keeper of the pid file `path`, which has the number of this process. Before gevent; raises StartError."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            service = os.getpid()
            child = os.fork()
            if not child:
                _detach_and_keep(path, service, theirs)
            _, status = os.waitpid(child, 0)
        except OSError as error:
            raise StartError(f"cannot keep pid file {path}: {error.strerror}") from None
        theirs.close()
        if status:
            ours.close()
            raise StartError(f"cannot keep pid file {path}: the process gmproxy-pid-file cannot be started")
        return cls(path, ours.detach())

    @classmethod
    def taken_over(cls, path: str, handed_over: tuple[str, int] | None) -> "PidKeeper | None":
        """What a predecessor `handed_over`, its path and descriptor, if that keeps `path`. If it keeps another pid file it is closed, so that it
        ends with the predecessor."""
        keeper = None if handed_over is None else cls(*handed_over)
        if keeper is not None and keeper.path != path:
            keeper.close()
            return None
        return keeper

    @property
    def descriptor(self) -> int:
        return self._sock.fileno()

    def write(self) -> None:
        """Write the number of this process. Waits up to REPLY_TIMEOUT; raises StartError."""
        reply = self._request(WRITE)
        if reply != DONE:
            raise StartError(
                reply.decode(errors="replace") or f"cannot write pid file {self.path}: the process gmproxy-pid-file does not reply"
            )

    def remove(self) -> None:
        """Remove the file if it has the number of this process; then its keeper ends. Waits up to REPLY_TIMEOUT; raises nothing."""
        self._request(REMOVE)
        self.close()

    def close(self) -> None:
        """For a process that has inherited the socket and does not want it."""
        self._sock.close()

    def _request(self, message: bytes) -> bytes:
        """The reply, b"" if there is none. gevent's sockets would let greenlets run: this is a plain one."""
        try:
            self._sock.send(message)
            return self._sock.recv(LONGEST)
        except OSError:
            return b""


def _detach_and_keep(path: str, service: int, sock: socket.socket) -> NoReturn:
    """In the child, whose exit status is 0 if there is a keeper."""
    status = 1
    try:
        bootstrap.ignore_signals()
        os.setsid()
        if not os.fork():
            _close_all_but(sock.fileno())
            proctitle.show_as(TITLE)
            os.chdir("/")
            _keep(path, service, sock)
        status = 0
    finally:
        os._exit(status)


def _close_all_but(kept: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _keep(path: str, service: int, sock: socket.socket) -> None:
    """Until the file is removed, or nobody has the other end. `service`: the number in the file."""
    while True:
        message = b""
        ancillary: list[tuple[int, int, bytes]] = []
        with contextlib.suppress(ConnectionResetError):  # instead of the end, if whoever died had not read the last reply
            message, ancillary, _, _ = sock.recvmsg(LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
        if not message:
            daemon.remove_pid_file(path, service)
            return
        sender = next(_CREDENTIALS.unpack(data)[0] for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS)
        reply = DONE
        if message == WRITE:
            try:
                daemon.write_pid_file(path, service, sender)
                service = sender
            except StartError as error:
                reply = str(error).encode()[:LONGEST]
        elif message == REMOVE and sender == service:
            daemon.remove_pid_file(path, service)
        with contextlib.suppress(OSError):
            sock.send(reply)
        if message == REMOVE and sender == service:
            return
