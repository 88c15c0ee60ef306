"""The services for the client libraries: a proxy over two memcached servers and a backup, or over three sets of two servers. Each is the same for all
tests of a file."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from support.servers import Memcached, Proxy, server_options

#: Replica sets, and how they are used. The misses of new servers are believed: else only the main set would be read.
REPLICAS = 2
REPLICA_OPTIONS = ("--write", "majority", "--read", "spread", "--on-miss", "never")


def start(stack, kind="text"):
    """`kind`: "text" or "binary", the protocol to two servers and a backup; or "replicas"."""

    def servers(count):
        return [stack.enter_context(Memcached()) for _ in range(count)]

    primaries = servers(2)
    if kind == "replicas":
        replicas, backups, backends, options = [servers(2) for _ in range(REPLICAS)], [], "text", REPLICA_OPTIONS
    else:
        replicas, backups, backends, options = [], servers(1), kind, ()
    proxy = stack.enter_context(Proxy(*server_options(primaries, backups, replicas), "--backend-protocol", backends, *options))
    copies = [*backups, *(server for replica in replicas for server in replica)]
    return SimpleNamespace(proxy=proxy, primaries=primaries, copies=copies, copies_of_a_key=len(replicas) or 1, backends=backends)


@pytest.fixture(scope="module", params=["text", "binary", pytest.param("replicas", marks=pytest.mark.long)])
def shop(request):
    """With the text and with the binary protocol to the servers, and over replicas."""
    with ExitStack() as stack:
        started = start(stack, request.param)
        yield started
        assert "Traceback" not in started.proxy.log(), started.proxy.log()


@pytest.fixture(params=["text", "replicas"])
def own_shop(request):
    """A service of its own, for a test that kills servers."""
    with ExitStack() as stack:
        yield start(stack, request.param)


@pytest.fixture
def key(request):
    """A key that no other test uses."""
    return request.node.name.replace(" ", "_")[:200]
