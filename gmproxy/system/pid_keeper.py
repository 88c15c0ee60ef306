"""A root process that keeps the pid file of a service whose user may not write in its directory, such as /run.

Such a service cannot remove its pid file when it ends, and its successor cannot write its own pid. So a process is forked while the service is
still root. It has only one end of a socket pair open. A request there is about the pid of its sender, which the kernel reports
(SCM_CREDENTIALS), so no process can have another pid written or removed. If the service dies, the other end is closed and the pid file is removed.
"""

import contextlib
import os
import socket
import struct
from typing import NoReturn

from gmproxy.errors import StartError
from gmproxy.system import bootstrap, daemon, proctitle, safe_files

#: Requests: write the sender's pid; remove the file if it has the sender's pid.
WRITE, REMOVE = b"write", b"remove"

#: The reply to a request that succeeded; otherwise the reply is the text of the error.
DONE = b"done"

#: Seconds within which the keeper must reply.
REPLY_TIMEOUT = 5.0

#: Maximum length of a request or reply in bytes.
LONGEST = 512

#: The name of the process in ps.
TITLE = "gmproxy-pid-file"

#: struct ucred: pid, user id and group id of a sender.
_CREDENTIALS = struct.Struct("3i")


def is_needed(path: str, user: str, group: str) -> bool:
    """True if this is root and changes to `user` and `group`, who may not remove root's file at `path`. Raises StartError."""
    if os.getuid() != 0 or not (user or group):
        return False
    with daemon.acting_as(user, group):
        try:
            with safe_files.parent(path) as (directory, _):
                return not safe_files.may_remove(directory)
        except OSError:
            return True


class PidKeeper:
    """The service's connection to the process that keeps its pid file.

    path         path of the pid file
    descriptor   of the socket, which is passed to a successor

    It uses a plain socket: a request blocks the whole process, up to REPLY_TIMEOUT.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._sock = socket.socket(fileno=descriptor)
        self._sock.settimeout(REPLY_TIMEOUT)

    @classmethod
    def start(cls, path: str) -> "PidKeeper":
        """Fork the process that keeps the pid file `path`, which has the pid of this process. Called before gevent is imported. Raises
        StartError."""
        try:
            own_end, keeper_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            keeper_end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            service = os.getpid()
            child = os.fork()
            if not child:
                _detach_and_keep(path, service, keeper_end)
            _, status = os.waitpid(child, 0)
        except OSError as error:
            raise StartError(f"cannot keep pid file {path}: {error.strerror}") from None
        keeper_end.close()
        if status:
            own_end.close()
            raise StartError(f"cannot keep pid file {path}: the process gmproxy-pid-file cannot be started")
        return cls(path, own_end.detach())

    @classmethod
    def taken_over(cls, path: str, handed_over: tuple[str, int] | None) -> "PidKeeper | None":
        """The PidKeeper `handed_over` by a predecessor, (path, descriptor), if it keeps the pid file `path`. Otherwise the descriptor is closed,
        so that the process ends with the predecessor, and None is returned."""
        keeper = None if handed_over is None else cls(*handed_over)
        if keeper is not None and keeper.path != path:
            keeper.close()
            return None
        return keeper

    @property
    def descriptor(self) -> int:
        return self._sock.fileno()

    def write(self) -> None:
        """Have the pid of this process written. Blocks up to REPLY_TIMEOUT. Raises StartError."""
        reply = self._request(WRITE)
        if reply != DONE:
            raise StartError(
                reply.decode(errors="replace") or f"cannot write pid file {self.path}: the process gmproxy-pid-file does not reply"
            )

    def remove(self) -> None:
        """Have the pid file removed if it has the pid of this process; then the keeping process exits. Blocks up to REPLY_TIMEOUT. Raises
        nothing."""
        self._request(REMOVE)
        self.close()

    def close(self) -> None:
        """Close the socket, in a process that has inherited it and does not use it."""
        self._sock.close()

    def _request(self, message: bytes) -> bytes:
        """The reply to `message`, b"" if there is none."""
        try:
            self._sock.send(message)
            return self._sock.recv(LONGEST)
        except OSError:
            return b""


def _detach_and_keep(path: str, service: int, sock: socket.socket) -> NoReturn:
    """In the child: fork the keeping process, and exit, with status 0 if it runs."""
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
    """Close all descriptors except `kept`; 0, 1 and 2 become /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _keep(path: str, service: int, sock: socket.socket) -> None:
    """Serve requests until the pid file is removed or no process has the other end open. `service`: the pid in the file."""
    while True:
        message = b""
        ancillary: list[tuple[int, int, bytes]] = []
        with contextlib.suppress(ConnectionResetError):  # raised instead of the end of the stream if the service died with an unread reply
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
