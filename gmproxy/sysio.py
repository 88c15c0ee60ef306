"""recv and send on a descriptor, without the cost of a socket object's methods and of a fresh 64 KiB buffer a call.

This is the one hot module that is written twice: `_c/sysio.pyx` does the same with C types. Both must keep this contract;
tests/unit/test_sysio.py holds them to it.
"""

import os

RECV_SIZE = 64 * 1024

_scratch = bytearray(RECV_SIZE)
_view = memoryview(_scratch)


def recv(fd):
    """The bytes that have arrived (at most RECV_SIZE), b"" once the peer has closed, None if there are none now.

    Raises OSError when the connection is broken.
    """
    try:
        count = os.readv(fd, (_scratch,))
    except BlockingIOError:
        return None
    return bytes(_view[:count])


def send(fd, data, offset):
    """Send data[offset:]; returns how many bytes the kernel took, 0 if it can take none now.

    Raises OSError when the connection is broken.
    """
    try:
        return os.write(fd, memoryview(data)[offset:] if offset else data)
    except BlockingIOError:
        return 0
