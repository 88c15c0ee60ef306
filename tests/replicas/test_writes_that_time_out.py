"""A write that was sent and perhaps made: it is not repeated, and what one server may have is owed there."""

import re
from contextlib import ExitStack

import pytest
from support.columns import NEVER_EJECT
from support.scripted import ScriptedBackend, hang
from support.servers import Proxy, server_options
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


class Three:
    """Three scripted servers, each a set, and a proxy.

    recorders   their Recorders; `play` changes what they reply
    """

    def __init__(self, stack, *options, forgets=True):
        self.recorders = [Recorder(**WELL) for _ in range(1 + REPLICAS)]
        self.servers = [stack.enter_context(ScriptedBackend(answer=recorder, forgets=forgets)) for recorder in self.recorders]
        where = server_options(self.servers[:1], (), [[server] for server in self.servers[1:]])
        self.proxy = stack.enter_context(Proxy(*where, "--timeout", milliseconds(2), *NEVER_EJECT, *options))

    def play(self, *of_servers):
        """Forget what was received. {command: its reply} for each server that replies otherwise than WELL, in order."""
        for server, recorder in zip(self.servers, self.recorders):
            server.forgot.clear()
            recorder.requests.clear()
            recorder.replies |= {name.encode(): reply for name, reply in WELL.items()}
        for recorder, replies in zip(self.recorders, of_servers):
            recorder.replies |= {name.encode(): reply for name, reply in replies.items()}

    def counts(self, request):
        """How often each server received exactly this request."""
        return [recorder.count(request) for recorder in self.recorders]

    def has_deleted(self, index):
        """True if the key was deleted on this server, as what it missed."""
        return any(request.startswith(b"delete k") for request in self.servers[index].forgot)

    def wait_until_paid(self):
        eventually(lambda: self.proxy.stats()["backends_behind"] == 0, what="no server has pending invalidations")


@pytest.fixture(scope="module", params=["main", *(pytest.param(write, marks=pytest.mark.long) for write in ("majority", "all"))])
def shared(request):
    with ExitStack() as stack:
        three = Three(stack, "--write", request.param)
        three.write = request.param
        yield three
        three.proxy.check_log()


@pytest.fixture
def three(shared):
    """With each policy. No server owes anything before and after the test."""
    yield shared
    shared.play()
    shared.wait_until_paid()


@pytest.fixture
def owing():
    """Call it with options for servers that take no invalidations: what they owe they owe for ever."""
    with ExitStack() as stack:
        made = []

        def start(*options):
            made.append(Three(stack, *options, forgets=False))
            return made[-1]

        yield start
        for one in made:
            one.proxy.check_log()


CONDITIONAL = {
    "add": storage(b"add", b"k", b"7"),
    "replace": storage(b"replace", b"k", b"7"),
    "cas": storage(b"cas", b"k", b"7", more=b" 9"),
    "ms": b"ms k 1 C9\r\n7\r\n",
    "md": b"md k C9\r\n",
    "ma": b"ma k C9\r\n",
}

COPIED = {"incr": b"incr k 1\r\n", "append": storage(b"append", b"k", b"7"), "set": SET}


@pytest.mark.parametrize(
    "verb", ["add", "cas", *(pytest.param(verb, marks=pytest.mark.long) for verb in CONDITIONAL if verb not in ("add", "cas"))]
)
def test_conditional_write_is_not_repeated(three, verb):
    three.play({verb: hang()})
    with three.proxy.talk() as talk:
        talk.expect(CONDITIONAL[verb], b"SERVER_ERROR timeout %b\r\n" % three.servers[0].address.encode())
        talk.in_step()
    eventually(lambda: three.has_deleted(0), what="the key is deleted there")
    assert not any(recorder.has_seen(verb.encode()) or recorder.has_seen(b"set") for recorder in three.recorders[1:])


@pytest.mark.parametrize("verb", COPIED)
def test_reply_of_the_copy_counts(three, verb):
    """The copy was under way already."""
    asks = COPIED[verb]
    three.play({verb: hang()})
    with three.proxy.talk() as talk:
        if three.write == "all":
            talk.expect(asks, b"SERVER_ERROR timeout %b\r\n" % three.servers[0].address.encode())
        else:
            talk.expect(asks, WELL[verb])
        talk.in_step()
    assert three.counts(asks) == [1, 1, 1]
    eventually(lambda: three.has_deleted(0), what="the key is deleted there")


@pytest.mark.parametrize("verb", COPIED)
def test_all_time_out(three, verb):
    asks = COPIED[verb]
    three.play(*[{verb: hang()}] * (1 + REPLICAS))
    with three.proxy.talk() as talk:
        talk.send(asks)
        assert talk.read_line().startswith(b"SERVER_ERROR timeout ")
        talk.in_step()
    assert three.counts(asks) == [1, 1, 1]
    eventually(lambda: all(map(three.has_deleted, range(1 + REPLICAS))), what="the key is deleted on all")


# -- servers that owe the key for ever


def test_key_that_a_worker_owes_on_the_main_set_is_changed_elsewhere(owing):
    """Neither the worker that owes it nor the other one sends it there what depends on the value."""
    three = owing("--workers", 2)
    eventually(lambda: three.proxy.stats()["threads"] == 2, what="both workers serve")
    three.play({"set": hang()})
    with three.proxy.talk() as talk:
        talk.expect(SET, STORED)
    for _ in range(CLIENTS):
        with three.proxy.talk() as talk:
            for verb in ("incr", "append"):
                talk.expect(COPIED[verb], WELL[verb])
            talk.expect(b"gat 100 k\r\n", WELL["gat"])
            talk.expect(GET, WELL["get"])
            talk.in_step()
    main, replica, _ = three.recorders
    assert not any(map(main.has_seen, (b"incr", b"append", b"gat", b"get")))
    assert replica.count(COPIED["incr"]) == replica.count(GET) == CLIENTS


@pytest.mark.long
def test_key_that_a_worker_owes_is_changed_by_several_clients_at_once(owing):
    """A change of another worker that is under way may not have reached the replica: then the reply is an error."""
    three = owing("--workers", 2)
    eventually(lambda: three.proxy.stats()["threads"] == 2, what="both workers serve")
    three.play({"set": hang()})
    with three.proxy.talk() as talk:
        talk.expect(SET, STORED)

    def one_client(number):
        with three.proxy.talk() as talk:
            for _ in range(10):
                reply = talk.ask(COPIED["incr"])
                assert reply == WELL["incr"] or re.fullmatch(rb"SERVER_ERROR ejected 127\.0\.0\.1:\d+\r\n", reply), reply
            talk.in_step()

    run_in_threads(one_client, CLIENTS)
    assert not three.recorders[0].has_seen(b"incr")


def test_key_that_is_owed_on_every_set(owing):
    three = owing()
    three.play(*[{"set": hang()}] * (1 + REPLICAS))
    with three.proxy.talk() as talk:
        talk.send(SET)
        assert talk.read_line().startswith(ERROR)
        talk.expect(GET, b"END\r\n")
        talk.in_step()
    assert three.counts(GET) == [0, 0, 0]
