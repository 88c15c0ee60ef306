"""Clients of the binary protocol over servers of the text protocol: what servers receive, and what clients receive after failures."""

import pytest
from support.columns import Stage
from support.keys import keys_by_server
from support.packets import ask, count, packet, read_answer, store, touch
from support.scripted import close, expect
from support.talk import value

from gmproxy.protocol import cas_numbers

SET = store("set", b"k", b"hello", 5)
ASKED_SET = b"ms k 5 T0 F5 c\r\nhello\r\n"
END = b"END\r\n"


@pytest.fixture(scope="module")
def stage():
    with Stage("--on-miss", "always", backends=2, backups=1) as stage:
        yield stage


@pytest.fixture
def talk(stage):
    """A client of the stage. At the end the servers must have received what their scripts expect."""
    with stage.proxy.talk() as talk:
        yield talk
        assert ask(talk, b"") == []
    stage.check()


ONE, OTHER = keys_by_server(2, 3)


def statuses(answers):
    return [answer.status for answer in answers]


def cas_value(key, data, cas):
    return b"VALUE %b 0 %d %d\r\n%b\r\n" % (key, len(data), cas, data)


def test_a_run_of_quiet_gets_is_one_request_for_each_server(stage, talk):
    keys = [ONE[0], OTHER[0], OTHER[1], ONE[1]]
    stage.set(
        [[expect(b"gets %b %b\r\n" % (ONE[0], ONE[1])), cas_value(ONE[0], b"1", 1) + cas_value(ONE[1], b"4", 4) + END]],
        [[expect(b"gets %b %b\r\n" % (OTHER[0], OTHER[1])), cas_value(OTHER[0], b"2", 2) + cas_value(OTHER[1], b"3", 3) + END]],
    )
    answers = ask(talk, b"".join(packet("getkQ", key, opaque=b"%04d" % number) for number, key in enumerate(keys)))
    assert [(answer.key, answer.value, answer.cas, answer.opaque) for answer in answers] == [
        (key, b"%d" % (number + 1), number + 1, b"%04d" % number) for number, key in enumerate(keys)
    ]


def test_a_server_that_fails_takes_only_its_own_keys_along(stage, talk):
    """Its keys are misses, as after the loss of a memcached."""
    stage.set(
        [[expect(b"gets %b\r\n" % ONE[0]), b"garbage\r\n"]],
        [[expect(b"gets %b\r\n" % OTHER[0]), cas_value(OTHER[0], b"2", 2) + END]],
        [[expect(b"gets %b\r\n" % ONE[0]), END]],
    )
    answers = ask(talk, packet("getQ", ONE[0], opaque=b"0001") + packet("get", OTHER[0], opaque=b"0002"))
    assert [(answer.opaque, answer.value) for answer in answers] == [(b"0002", b"2")]


def test_changes_go_to_the_backup_too(stage, talk):
    key = ONE[0]
    line = b"ms %b 1 T0 F0 c\r\nx\r\n" % key
    stage.set([[expect(line), b"HD c7\r\n"]], [], [[expect(line), b"HD c9\r\n"]])
    (answer,) = ask(talk, store("set", key, b"x"))
    assert (answer.status, answer.cas) == (0, 7)


def test_a_change_on_a_condition_goes_there_by_its_outcome(stage, talk):
    key = ONE[0]
    stage.set(
        [[expect(b"ms %b 1 ME T5 F3 c\r\nx\r\n" % key), b"HD c7\r\n"]],
        [],
        [[expect(b"mg %b f t v\r\n" % key), b"EN\r\n", expect(b"ms %b 1 T5 F3\r\nx\r\n" % key), b"HD\r\n"]],
    )
    assert statuses(ask(talk, store("add", key, b"x", 3, 5))) == [0]


def test_the_backup_answers_for_a_primary_that_is_down(stage, talk):
    key = ONE[0]
    lines = [b"gets %b\r\n" % key, b"mg %b f t v\r\n" % key, b"ma %b MI D1 v c\r\n" % key, b"md %b\r\n" % key]
    replies = [cas_value(key, b"x", 7) + END, b"EN\r\n", b"VA 1 c8\r\n6\r\n", b"HD\r\n"]
    stage.set([], [], [[step for line, reply in zip(lines, replies) for step in (expect(line), reply)]])
    stage.backends[0].refuse()
    answers = [ask(talk, said)[0] for said in (packet("get", key), count("incr", key), packet("delete", key))]
    of_backup = cas_numbers.BACKUP_SET << cas_numbers.SHIFT
    assert [(answer.status, answer.cas, answer.value) for answer in answers] == [
        (0, 7 | of_backup, b"x"),
        (0, 8 | of_backup, b"\0" * 7 + b"\6"),
        (0, 0, b""),
    ]


def test_a_miss_of_a_primary_that_came_back_empty_is_looked_up(stage, talk):
    key = ONE[0]
    stage.set(
        [[expect(b"gets %b\r\n" % key), END, expect(b"add %b 7 90 5\r\nhello\r\n" % key), b"STORED\r\n"]],
        [],
        [[expect(b"mg %b f t c v\r\n" % key), b"VA 5 f7 t90 c12\r\nhello\r\n"]],
    )
    (answer,) = ask(talk, packet("getk", key))
    assert (answer.flags(), answer.key, answer.value, answer.cas) == (7, key, b"hello", (1 << 56) + 12)
    stage.backends[0].wait_until_seen(b"add ")


def test_what_is_stored_after_it_does_not_overtake_a_read(stage, talk):
    """If the read is repeated on the backup, it must not return what was stored later."""
    key = ONE[0]
    line = b"ms %b 1 T0 F0\r\nx\r\n" % key
    stage.set(
        [[expect(b"gets %b\r\n" % key), close()], [expect(b"gets %b\r\n" % key), close()], [expect(line), b"HD\r\n"]],
        [],
        [[expect(b"gets %b\r\n" % key), END, expect(line), b"HD\r\n"]],
    )
    assert statuses(ask(talk, packet("get", key) + store("setQ", key, b"x"))) == [1]


# -- one server, no backup


@pytest.fixture(scope="module")
def alone():
    with Stage() as stage:
        yield stage


@pytest.mark.parametrize(
    "said, asked, reply, status, value_",
    [
        (SET, ASKED_SET, [b"H", close()], 0x84, b"closed {server}"),
        (SET, ASKED_SET, b"garbage\r\n", 0x84, b"protocol {server}"),
        (store("setQ", b"k", b"hello", 5), ASKED_SET.replace(b" c\r", b"\r"), b"garbage\r\n", 0x84, b"protocol {server}"),
        (SET, ASKED_SET, b"SERVER_ERROR out of memory storing object\r\n", 0x82, b"Out of memory"),
        (SET, ASKED_SET, b"SERVER_ERROR object too large for cache\r\n", 3, b"Too large."),
        (touch("gat", b"k", 5), b"mg k T5 f c v\r\n", b"garbage\r\n", 1, b"Not found"),
        (packet("get", b"k"), b"gets k\r\n", value(b"other", b"x") + END, 1, b"Not found"),
        (packet("flush"), b"flush_all\r\n", b"SERVER_ERROR x\r\n", 0x84, b"x"),
    ],
)
def test_failures(alone, said, asked, reply, status, value_):
    alone.set([[expect(asked), *(reply if isinstance(reply, list) else [reply])]])
    with alone.proxy.talk() as talk:
        (answer,) = ask(talk, said)
        assert (answer.status, answer.value) == (status, value_.replace(b"{server}", alone.backends[0].address.encode()))
        assert ask(talk, b"") == []
    alone.check()


def test_a_server_too_old_for_meta_commands(alone):
    """It reads the data block as commands: the connection is closed."""
    alone.set([[expect(ASKED_SET), b"ERROR\r\n"]])
    with alone.proxy.talk() as talk:
        assert [(answer.status, answer.value) for answer in ask(talk, SET)] == [(0x84, b"ERROR")]
    alone.check()


def test_a_wrong_packet_ends_the_connection_after_the_answers_to_what_came_before(alone):
    alone.set([[expect(b"gets k\r\n"), END]])
    with alone.proxy.talk() as talk:
        talk.send(packet("get", b"k") + packet("incr", b"k") + packet("noop"))
        assert statuses([read_answer(talk), read_answer(talk)]) == [1, 4]
        assert talk.closed()
    alone.check()


@pytest.mark.parametrize("name, answered", [("quit", True), ("quitQ", False)])
def test_quit(alone, name, answered):
    alone.set([])
    with alone.proxy.talk() as talk:
        talk.send(packet("noop") + packet(name) + packet("noop"))
        assert read_answer(talk).name == "noop"
        if answered:
            assert read_answer(talk).name == name
        assert talk.closed()


# -- commands to which the proxy itself replies


@pytest.fixture
def own(memcached, proxy):
    return proxy("-s", memcached().address)


def test_version_and_statistics_are_those_of_the_text_protocol(own):
    with own.talk() as text, own.talk() as talk:
        (version,) = ask(talk, packet("version"))
        assert text.ask(b"version\r\n") == b"VERSION %b\r\n" % version.value
        *lines, last = ask(talk, packet("stat"))
        assert (last.key, last.value) == (b"", b"")
        in_text = text.ask(b"stats\r\n", END)
        assert [line.key for line in lines] == [line.split()[1] for line in in_text.splitlines()[:-1]]
        *lines, last = ask(talk, packet("stat", b"settings"))
        assert {line.key: line.value for line in lines}[b"max_item_size"] == b"1048576"
        assert statuses(ask(talk, packet("stat", b"items"))) == [0]
        assert statuses(ask(talk, packet("stat", b"nonsense"))) == [1]


def test_flush_may_be_refused(memcached, proxy):
    with proxy("-s", memcached().address, "-F").talk() as talk:
        assert statuses(ask(talk, packet("flush") + packet("flushQ"))) == [0x20, 0x20]


def test_a_value_that_is_too_large_takes_the_old_one_with_it(memcached, proxy):
    with proxy("-s", memcached().address, "-I", "1k").talk() as talk:
        assert statuses(ask(talk, store("set", b"k", b"x" * 1024))) == [0]
        assert statuses(ask(talk, store("add", b"k", b"x" * 1025) + packet("getQ", b"k"))) == [3, 0]
        assert statuses(ask(talk, store("setQ", b"k", b"x" * 1025) + packet("get", b"k"))) == [3, 1]


def test_all_dialects_see_the_same_items(own):
    with own.talk() as text, own.talk() as talk:
        assert statuses(ask(talk, store("set", b"k", b"hello", 5) + store("set", b"a b", b"\r\n", 6))) == [0, 0]
        text.expect(b"get k\r\n", value(b"k", b"hello", 5) + END)
        text.expect(b"mg YSBi b v f\r\n", b"VA 2 f6\r\n\r\n\r\n")
        text.expect(b"set k 9 0 2\r\nhi\r\n", b"STORED\r\n")
        (answer,) = ask(talk, packet("get", b"k"))
        assert (answer.flags(), answer.value) == (9, b"hi")


@pytest.mark.parametrize("exptime", [0, 100, 2592001, 2**31, 2**32 - 1])
def test_times(own, exptime):
    """More than thirty days are a date: 2592001 is one in 1970, and a number too large for the text protocol is far in the future."""
    with own.talk() as talk:
        ask(talk, store("set", b"k", b"x", exptime=exptime))
        assert statuses(ask(talk, packet("get", b"k"))) == [1 if exptime == 2592001 else 0]


def test_many_quiet_gets(own):
    keys = [b"key%d" % number for number in range(1200)]
    with own.talk() as talk:
        assert ask(talk, b"".join(store("setQ", key, key) for key in keys[::2])) == []
        found = ask(talk, b"".join(packet("getkQ", key) for key in keys))
        assert [(answer.key, answer.value) for answer in found] == [(key, key) for key in keys[::2]]


def test_packets_that_arrive_byte_by_byte(own):
    said = store("set", b"k", b"hello") + packet("getk", b"k") + packet("getQ", b"k") + packet("noop")
    with own.talk() as talk:
        talk.send_in_pieces(said)
        answers = [read_answer(talk) for _ in range(4)]
    assert [answer.name for answer in answers] == ["set", "getk", "getQ", "noop"]
