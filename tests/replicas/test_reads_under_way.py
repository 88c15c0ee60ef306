"""`read = near` and `spread`: a key that is being written, or that a set owes, is read on the acting main."""

import threading

import pytest
from support.columns import NEVER_EJECT
from support.scripted import hang, say, wait_for
from support.servers import server_options
from support.talk import storage, value
from support.timing import eventually, milliseconds

from replicas.recorder import Recorder
from replicas.sets import REPLICAS, wait_until_replied

STORED = b"STORED\r\n"
SET = storage(b"set", b"k", b"7")
GET, OTHER = b"get k\r\n", b"get other\r\n"
POLICIES = {"near": ("--read", "near", "--zone", "here", "--server-zone", "here"), "spread": ("--read", "spread")}
ROUNDS = 6


def found(key):
    return value(key, b"7") + b"END\r\n"


def reply_to_get(request):
    return found(request.split()[1])


@pytest.fixture(params=["spread", pytest.param("near", marks=pytest.mark.long)])
def start(scripted, proxy, request):
    """Call it with the recorders of three sets for a proxy and the three servers."""

    def run(recorders, *options, forgets=True):
        servers = [scripted(answer=recorder, forgets=forgets) for recorder in recorders]
        where = server_options(servers[:1], (), [[server] for server in servers[1:]])
        return proxy(*where, "--timeout", milliseconds(6), *NEVER_EJECT, *POLICIES[request.param], *options), servers

    return run


def test_key_that_is_being_written_is_read_on_the_main_set(start):
    go_on = threading.Event()
    main = Recorder(set=STORED, get=reply_to_get)
    others = [Recorder(set=[wait_for(go_on), say(STORED)], get=reply_to_get) for _ in range(REPLICAS)]
    front, _ = start([main, *others], "--timeout", milliseconds(400))
    with front.talk() as talk:
        talk.expect(SET, STORED)
        with front.talk() as reader:
            for number in range(ROUNDS):
                reader.expect(GET, found(b"k"))
                assert main.count(GET) == number + 1
        go_on.set()
        wait_until_replied(talk)
        talk.in_step()


def test_key_that_a_set_owes_is_not_read_there(start):
    """The second set takes no invalidation, so it owes the key for ever; other keys are read there."""
    three = [Recorder(set=STORED, get=reply_to_get), Recorder(set=hang(), get=reply_to_get), Recorder(set=STORED, get=reply_to_get)]
    front, _ = start(three, forgets=False)
    with front.talk() as talk:
        talk.expect(SET, STORED)
        eventually(lambda: front.stats()["backends_behind"] == 1, what="the second set owes the key")
        for _ in range(ROUNDS):
            talk.expect(GET, found(b"k"))
            talk.expect(OTHER, found(b"other"))
        talk.in_step()
    assert three[1].count(GET) == 0
