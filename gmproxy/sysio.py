"""send on a descriptor, without the cost of a socket object's methods. What receives is the stream (protocol/stream.py).

This hot module is written twice: `_c/sysio.pyx` does the same with C types. Both must keep this contract; tests/unit/test_sysio.py
holds them to it.
"""

import os


def send(fd, data, offset):
    """Send data[offset:]; returns how many bytes the kernel took, 0 if it can take none now.

    Raises OSError when the connection is broken.
    """
    try:
        return os.write(fd, memoryview(data)[offset:] if offset else data)
    except BlockingIOError:
        return 0
