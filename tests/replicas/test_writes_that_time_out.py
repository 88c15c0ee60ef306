"""A write that was sent and perhaps made: it is not repeated, and what one server may have is owed there."""

import pytest
from support.columns import NEVER_EJECT
from support.scripted import hang
from support.servers import server_options
from support.talk import storage, value
from support.threads import run_in_threads
from support.timing import eventually, milliseconds

from replicas.cells import ERROR
from replicas.recorder import Recorder
from replicas.sets import REPLICAS

STORED = b"STORED\r\n"
SET = storage(b"set", b"k", b"7")
GET = b"get k\r\n"

#: Replies of a server.
WELL = {
    "get": value(b"k", b"7") + b"END\r\n",
    "gets": b"VALUE k 0 1 9\r\n7\r\nEND\r\n",
    "gat": value(b"k", b"7") + b"END\r\n",
    "touch": b"TOUCHED\r\n",
    "set": STORED,
    "add": STORED,
    "replace": STORED,
    "cas": STORED,
    "append": STORED,
    "incr": b"8\r\n",
    "ma": b"HD\r\n",
    "ms": b"HD\r\n",
    "md": b"HD\r\n",
    "mg": b"EN\r\n",
    "delete": b"DELETED\r\n",
}

#: A worker has its clients by chance: with so many there are some of each.
CLIENTS = 12


@pytest.fixture
def start(scripted, proxy):
    """Call it with the recorders of three sets, and options, for a proxy, the three servers, and a client."""

    def run(recorders, *options, forgets=True):
        servers = [scripted(answer=recorder, forgets=forgets) for recorder in recorders]
        front = proxy(
            *server_options(servers[:1], (), [[server] for server in servers[1:]]), "--timeout", milliseconds(6), *NEVER_EJECT, *options
        )
        return front, servers

    return run


def recorders(**of_main):
    return [Recorder(**WELL | of_main), *(Recorder(**WELL) for _ in range(REPLICAS))]


CONDITIONAL = {
    "add": storage(b"add", b"k", b"7"),
    "replace": storage(b"replace", b"k", b"7"),
    "cas": storage(b"cas", b"k", b"7", more=b" 9"),
    "ms": b"ms k 1 C9\r\n7\r\n",
    "md": b"md k C9\r\n",
    "ma": b"ma k C9\r\n",
}


@pytest.mark.parametrize("verb", CONDITIONAL)
def test_conditional_write_is_not_repeated(start, verb):
    three = recorders(**{verb: hang()})
    front, servers = start(three)
    with front.talk() as talk:
        talk.expect(CONDITIONAL[verb], b"SERVER_ERROR timeout %b\r\n" % servers[0].address.encode())
        talk.in_step()
    eventually(
        lambda: b"delete k noreply\r\n" in servers[0].forgot or b"delete k\r\n" in servers[0].forgot, what="the key is deleted there"
    )
    assert not any(recorder.has_seen(verb.encode()) or recorder.has_seen(b"set") for recorder in three[1:])


@pytest.mark.parametrize("verb, asks", [("incr", b"incr k 1\r\n"), ("append", storage(b"append", b"k", b"7")), ("set", SET)])
def test_reply_of_the_copy_counts(start, verb, asks):
    """The copy was under way already."""
    three = recorders(**{verb: hang()})
    front, servers = start(three)
    with front.talk() as talk:
        talk.expect(asks, WELL[verb])
        talk.in_step()
    assert [recorder.count(asks) for recorder in three] == [1, 1, 1]
    eventually(lambda: servers[0].forgot, what="the key is deleted there")


@pytest.mark.parametrize("write", ["main", "majority", "all"])
def test_all_time_out(start, write):
    three = [Recorder(**WELL | {"incr": hang()}) for _ in range(1 + REPLICAS)]
    front, servers = start(three, "--write", write)
    with front.talk() as talk:
        talk.send(b"incr k 1\r\n")
        assert talk.read_line().startswith(b"SERVER_ERROR timeout ")
        talk.in_step()
    assert [recorder.count(b"incr k 1\r\n") for recorder in three] == [1, 1, 1]
    eventually(lambda: all(server.forgot for server in servers), what="the key is deleted on all")


@pytest.mark.parametrize(
    "asks, reply", [(b"incr k 1\r\n", b"8\r\n"), (storage(b"append", b"k", b"7"), STORED), (b"gat 100 k\r\n", WELL["gat"])]
)
def test_key_that_a_worker_owes_on_the_main_set_is_not_read_there(start, asks, reply):
    """Neither by the worker that owes it nor by the other one. The main set takes no invalidation, so it owes the key for ever."""
    three = recorders(set=hang())
    front, _ = start(three, "--workers", 2, forgets=False)
    eventually(lambda: front.stats()["threads"] == 2, what="both workers serve")
    with front.talk() as talk:
        talk.expect(SET, STORED)

    def one_client(number):
        with front.talk() as talk:
            talk.expect(asks, reply)
            talk.in_step()

    run_in_threads(one_client, CLIENTS)
    assert not three[0].has_seen(asks.split()[0])
    assert three[1].count(asks) >= CLIENTS or asks.startswith(b"gat")


def test_key_that_is_owed_is_not_read_there(start):
    three = recorders(set=hang())
    front, _ = start(three, forgets=False)
    with front.talk() as talk:
        talk.expect(SET, STORED)
        for _ in range(5):
            talk.expect(GET, WELL["get"])
    assert three[0].count(GET) == 0 and three[1].count(GET) == 5 and three[2].count(GET) == 0


def test_error_when_every_set_owes_the_key(start):
    three = [Recorder(**WELL | {"set": hang()}) for _ in range(1 + REPLICAS)]
    front, _ = start(three, forgets=False)
    with front.talk() as talk:
        talk.send(SET)
        assert talk.read_line().startswith(ERROR)
        talk.expect(GET, b"END\r\n")
        talk.in_step()
    assert not any(recorder.has_seen(b"get") for recorder in three)
