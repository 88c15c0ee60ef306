"""Replies of a memcached that is newer than Debian's: they are forwarded, and are no failure of the server.

GMPROXY_TEST_MEMCACHED names such a memcached.
"""

import pytest
from support.servers import OTHER_MEMCACHED
from support.timing import eventually

pytestmark = pytest.mark.skipif(OTHER_MEMCACHED is None, reason="GMPROXY_TEST_MEMCACHED names no other memcached")


@pytest.fixture
def server(memcached):
    server = memcached(program=OTHER_MEMCACHED)
    with server.talk() as talk:
        if talk.ask(b"mg k E5\r\n") != b"EN\r\n":
            pytest.skip("GMPROXY_TEST_MEMCACHED does not know the flag E")
    return server


def test_a_client_that_has_the_value_already(server, proxy):
    front = proxy("-s", server.address, "--server-failure-limit", "1")
    with front.talk() as talk:
        talk.expect(b"ms k 1 E77\r\n1\r\n", b"HD\r\n")
        for _ in range(5):
            talk.expect(b"mg k C77 v c\r\n", b"HD c77\r\n")
            talk.expect(b"mg k C78 v c\r\n", b"VA 1 c77\r\n1\r\n")
        talk.in_step()
    assert front.stats()["backend_failures"] == 0


@pytest.mark.parametrize(
    "said, answer",
    [
        (b"ms k 3 E5 c s k O1\r\nabc\r\n", b"HD c5 s3 kk O1\r\n"),
        (b"ms k 1 E\r\n1\r\n", b"CLIENT_ERROR bad token in command line format\r\n"),
        (b"ms k 7 !\r\nversion\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"ms k 7 z\r\nversion\r\n", b"CLIENT_ERROR invalid flag\r\n"),
        (b"ms k 7 noreply\r\nversion\r\n", b"CLIENT_ERROR invalid flag\r\n"),
        (b"ms k 1 Mset\r\n1\r\n", b"CLIENT_ERROR invalid mode for ms M token\r\n"),
        (b"ms k 1 F+7 T\t9\r\n1\r\n", b"HD\r\n"),
        (b"md k x\r\n", b"NF\r\n"),
        (b"ma k N0 J5 E9 c v\r\n", b"VA 1 c9\r\n5\r\n"),
        (b"mg k x y\r\n", b"CLIENT_ERROR invalid flag\r\n"),
        (b"delete noreply\r\n", b""),
        (b"foo noreply\r\n", b""),
    ],
)
def test_the_link_stays_in_step(server, proxy, said, answer):
    front = proxy("-s", server.address)
    with front.talk() as talk:
        talk.expect(said + b"mn\r\n", answer + b"MN\r\n")
        talk.expect(b"get other\r\nmg other k v\r\n", b"END\r\nEN kother\r\n")
    assert front.stats()["backend_failures"] == 0


def test_a_key_that_is_called_noreply_is_forgotten(server, proxy):
    """The server would not reply to `delete noreply`, and would never be restored."""
    front = proxy("-s", server.address, "--timeout", "300", "--server-retry-timeout", "100", "--server-failure-limit", "1")
    with front.talk() as talk:
        talk.expect(b"set noreply 0 0 1\r\n1\r\n", b"STORED\r\n")
        server.pause()
        assert talk.ask(b"set noreply 0 0 1\r\n2\r\n").startswith(b"SERVER_ERROR timeout")
        server.resume()
        eventually(lambda: front.stats()["backends_behind"] == 0 == front.stats()["backends_ejected"], what="it has caught up")
        talk.expect(b"get noreply\r\n", b"END\r\n")
