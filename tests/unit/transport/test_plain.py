"""The system calls that requests need, in both builds of the module: the same behaviour. Receiving is tested in protocol/test_recv_buffer.py."""

import errno
import os
import socket

import pytest
from support.builds import from_source, needs_both
from support.timing import PATIENCE

from gmproxy.compiled import COMPILED
from gmproxy.transport import plain

(pure,) = from_source("transport.plain")
compiled = plain if COMPILED else None


@pytest.fixture(params=["pure", pytest.param("compiled", marks=needs_both)])
def transport(request):
    return {"pure": pure, "compiled": compiled}[request.param].PLAIN


def test_send_returns_how_many_bytes_were_taken(transport, ends):
    ours, theirs = ends
    assert transport.send(ours.fileno(), b"hello", 0) == 5
    assert transport.send(ours.fileno(), b"hello", 2) == 3
    assert theirs.recv(100) == b"hellollo"


def test_no_more_than_so_much_is_sent_at_once(transport, ends):
    ours, _ = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * plain.SEND_AT_ONCE)
    assert transport.send(ours.fileno(), bytes(4 * plain.SEND_AT_ONCE), 0) <= plain.SEND_AT_ONCE


def test_zero_if_the_kernel_takes_none_now(transport, ends):
    ours, theirs = ends
    while transport.send(ours.fileno(), b"x" * 100_000, 0):
        pass
    theirs.recv(1 << 20)
    assert transport.send(ours.fileno(), b"x", 0) == 1


def test_a_peer_that_is_gone(transport, ends):
    """It is reported as an error, not as a signal that ends the process."""
    ours, theirs = ends
    theirs.close()
    with pytest.raises(BrokenPipeError):
        transport.send(ours.fileno(), b"x", 0)


def test_no_descriptor(transport):
    with pytest.raises(OSError):
        transport.send(-1, b"x", 0)


@needs_both
def test_both_builds_have_the_same_constants():
    assert (pure.NOTHING, pure.SEND_AT_ONCE) == (compiled.NOTHING, compiled.SEND_AT_ONCE)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def test_accepted_connections_do_not_block_and_are_not_inherited(transport, listening):
    assert transport.accept(listening.fileno()) == plain.NOTHING
    with socket.create_connection(listening.getsockname(), PATIENCE) as client:
        with socket.socket(fileno=transport.accept(listening.fileno())) as accepted:
            assert not os.get_blocking(accepted.fileno())
            assert not os.get_inheritable(accepted.fileno())
            assert accepted.getpeername() == client.getsockname()
        assert transport.accept(listening.fileno()) == plain.NOTHING


def test_accept_fails_as_the_kernel_says(transport, ends):
    with pytest.raises(OSError) as caught:
        transport.accept(ends[0].fileno())
    assert caught.value.errno in (errno.EINVAL, errno.EOPNOTSUPP)


def test_a_descriptor_is_closed_once(transport):
    fd = os.open(os.devnull, os.O_RDONLY)
    transport.close(fd)
    with pytest.raises(OSError) as caught:
        transport.close(fd)
    assert caught.value.errno == errno.EBADF
