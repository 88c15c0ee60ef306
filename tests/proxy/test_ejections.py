"""A server is ejected while requests wait for it: each of them, and every later one, gets one reply within its timeouts."""

import pytest
from support.service import order
from support.talk import storage, value
from support.timing import eventually, milliseconds

from gmproxy.placement import builder
from gmproxy.placement.server_spec import parse_servers

#: A multi-get that updates lifetimes: with three servers some of the keys belong to each.
KEYS = [b"k%d" % number for number in range(12)]
GAT = b"gat 100 %b\r\n" % b" ".join(KEYS)

#: Ticks until a request to a server that does not reply fails.
TIMEOUT = 4


def ask_one_by_one(proxy):
    """Each key is requested by a new client: each gets a reply, a value or a miss."""
    for key in KEYS:
        with proxy.talk() as talk:
            answer = talk.ask(b"get %b\r\n" % key, b"END\r\n")
            assert answer in (b"END\r\n", value(key, b"hello") + b"END\r\n")
            talk.in_step()


def fill(proxy):
    with proxy.talk() as talk:
        for key in KEYS:
            talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")


def found_keys(answer):
    return [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"VALUE ")]


@pytest.mark.parametrize("asked", [GAT, b"gats" + GAT[3:], b"get" + GAT[7:], b"gets" + GAT[7:]], ids=["gat", "gats", "get", "gets"])
def test_a_retrieval_of_many_keys_while_two_servers_hang(memcached, proxy, asked):
    servers = [memcached() for _ in range(3)]
    front = proxy(
        *(word for server in servers for word in ("-s", server.address)),
        "-b",
        memcached().address,
        "--auto-eject-hosts",
        "--timeout",
        milliseconds(TIMEOUT),
        "--server-failure-limit",
        "1",
    )
    fill(front)
    for server in servers[:2]:
        server.pause()
    with front.talk() as talk:
        talk.send(asked)
        answer = talk.read_until(b"END\r\n")
        assert found_keys(answer) == [key for key in KEYS if key in found_keys(answer)], "in the order asked"
        talk.in_step()
    ask_one_by_one(front)
    assert front.stats()["internal_errors"] == 0


def test_a_retrieval_of_many_keys_while_an_operator_ejects_the_servers(memcached, proxy, tmp_path):
    """The servers hang, which has not been detected yet: the backup replies at once to the requests that wait for them."""
    servers = [memcached() for _ in range(3)]
    front = proxy(
        *(word for server in servers for word in ("-s", server.address)),
        "-b",
        memcached().address,
        "--auto-eject-hosts",
        "--timeout",
        milliseconds(400),
        "--control",
        tmp_path / "control",
    )
    front.control = str(tmp_path / "control")
    fill(front)
    for server in servers[:2]:
        server.pause()
    with front.talk() as talk, front.talk() as other:
        talk.send(GAT)
        other.send(b"get %b\r\n" % b" ".join(KEYS))
        eventually(lambda: in_flight(front) >= 4, what="both wait for both servers")
        for server in servers[:2]:
            order(front, "eject", server.address)
        for waiting in (talk, other):
            assert found_keys(waiting.read_until(b"END\r\n")) == KEYS
            waiting.in_step()
    ask_one_by_one(front)
    assert front.stats()["internal_errors"] == 0


def in_flight(front):
    """The number of requests that wait for a reply of a server."""
    return sum(backend["in_flight"] for backend in order(front, "report")["pools"]["default"]["backends"])


def test_no_ring_without_the_ejected_server(memcached, proxy):
    """If the remaining weights are too small for the distribution, the other servers keep their keys, and all requests get replies."""
    light, unused, heavy = servers = [memcached() for _ in range(3)]
    weighted = [f"{server.address}:{weight}" for server, weight in zip(servers, ("0.2", "0.2", "1.2"))]
    locate = builder.build(parse_servers(",".join(weighted)), "perl-fast").locate
    of_heavy = [key for key in KEYS if servers[locate(key)] is heavy]
    of_light = [key for key in KEYS if servers[locate(key)] is light]
    assert of_heavy and of_light
    front = proxy(
        *(word for server in weighted for word in ("-s", server)),
        "--distribution",
        "perl-fast",
        "--auto-eject-hosts",
        "--timeout",
        milliseconds(TIMEOUT),
        "--server-failure-limit",
        "1",
    )
    fill(front)
    heavy.pause()
    waiting = [front.talk() for _ in of_heavy]
    for talk, key in zip(waiting, of_heavy):
        talk.send(b"get %b\r\n" % key)
    for talk in waiting:
        talk.expect_answer(b"END\r\n")
        talk.in_step()
        talk.close()
    ask_one_by_one(front)
    with front.talk() as talk:
        for key in of_light:
            talk.expect(b"get %b\r\n" % key, value(key, b"hello") + b"END\r\n")
        for key in of_heavy:
            assert talk.ask(storage(b"set", key, b"hello")).startswith((b"STORED", b"SERVER_ERROR ejected"))
        heavy.resume()
        eventually(lambda: front.stats()["backends_ejected"] == 0, what="it is restored")
        for key in KEYS:
            talk.expect(storage(b"set", key, b"again"), b"STORED\r\n")
            talk.expect(b"get %b\r\n" % key, value(key, b"again") + b"END\r\n")
        talk.in_step()
    assert front.stats()["internal_errors"] == 0
