"""The service for the client libraries: a proxy over two memcached servers and a backup, the same for all tests of a file."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from support.servers import Memcached, Proxy


def start(stack, backends="text"):
    primaries = [stack.enter_context(Memcached()) for _ in range(2)]
    backup = stack.enter_context(Memcached())
    proxy = stack.enter_context(
        Proxy("-s", primaries[0].address, "-s", primaries[1].address, "-b", backup.address, "--backend-protocol", backends)
    )
    return SimpleNamespace(proxy=proxy, primaries=primaries, backup=backup, backends=backends)


@pytest.fixture(scope="module", params=["text", "binary"])
def shop(request):
    """With the text and with the binary protocol to the servers."""
    with ExitStack() as stack:
        started = start(stack, request.param)
        yield started
        assert "Traceback" not in started.proxy.log(), started.proxy.log()


@pytest.fixture
def own_shop():
    """A service of its own, for a test that kills servers."""
    with ExitStack() as stack:
        yield start(stack)


@pytest.fixture
def key(request):
    """A key that no other test uses."""
    return request.node.name.replace(" ", "_")[:200]
