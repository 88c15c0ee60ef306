"""send, in both builds of the module: one contract."""

import importlib
import socket

import pytest

from gmproxy import sysio as pure

try:
    compiled = importlib.import_module("gmproxy._c.sysio")
except ImportError:
    compiled = None


@pytest.fixture(params=["pure", pytest.param("compiled", marks=pytest.mark.skipif(compiled is None, reason="not compiled"))])
def sysio(request):
    return {"pure": pure, "compiled": compiled}[request.param]


@pytest.fixture
def ends():
    """Two sockets that are connected and never wait."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def fill(sysio, fd):
    """Send until the kernel takes no more. Returns what it took."""
    sent = b""
    while count := sysio.send(fd, b"x" * 100_000, 0):
        sent += b"x" * count
    return sent


def test_send_says_how_much_was_taken(sysio, ends):
    ours, theirs = ends
    assert sysio.send(ours.fileno(), b"hello", 0) == 5
    assert theirs.recv(100) == b"hello"


def test_send_from_an_offset(sysio, ends):
    ours, theirs = ends
    assert sysio.send(ours.fileno(), b"hello", 2) == 3
    assert theirs.recv(100) == b"llo"


def test_zero_if_the_kernel_takes_none_now(sysio, ends):
    ours, theirs = ends
    fill(sysio, ours.fileno())
    assert sysio.send(ours.fileno(), b"x", 0) == 0
    theirs.recv(1 << 20)
    assert sysio.send(ours.fileno(), b"x", 0) == 1


def test_a_peer_that_is_gone(sysio, ends):
    """As an error, not as a signal that ends the process."""
    ours, theirs = ends
    theirs.close()
    with pytest.raises(BrokenPipeError):
        sysio.send(ours.fileno(), b"x", 0)


def test_no_descriptor(sysio):
    with pytest.raises(OSError):
        sysio.send(-1, b"x", 0)
