"""The relay treats the bytes as its methods say."""

import pytest
from support.relay import Relay
from support.talk import Talk
from support.timing import eventually


@pytest.fixture
def relay(memcached):
    with Relay(memcached()) as relay:
        yield relay


@pytest.fixture
def talk(relay):
    with Talk(relay.port) as talk:
        talk.expect(b"set a 0 0 5\r\nhello\r\n", b"STORED\r\n")
        yield talk


def works(relay):
    with Talk(relay.port) as talk:
        talk.expect(b"get a\r\n", b"VALUE a 0 5\r\nhello\r\nEND\r\n")
    return True


def test_a_good_wire(talk):
    talk.expect(b"get a\r\n", b"VALUE a 0 5\r\nhello\r\nEND\r\n")


def test_the_end_is_passed_on(talk):
    talk.send(b"quit\r\n")
    assert talk.closed()


def test_what_is_held_arrives_later(relay, talk):
    relay.hold()
    talk.send(b"get a\r\n")
    assert talk.silent()
    relay.pass_on()
    talk.expect_answer(b"VALUE a 0 5\r\nhello\r\nEND\r\n")


def test_who_connects_while_the_wire_holds_is_served_later(relay, talk):
    relay.hold()
    with Talk(relay.port) as other:
        other.send(b"get a\r\n")
        assert other.silent()
        relay.pass_on()
        other.expect_answer(b"VALUE a 0 5\r\nhello\r\nEND\r\n")


def test_what_is_dropped_never_arrives_and_the_stream_is_cut(relay, talk):
    relay.drop()
    talk.send(b"set a 0 0 5\r\nother\r\n")
    assert talk.silent()
    relay.pass_on()
    assert talk.closed()
    assert works(relay)


def test_delay(relay, talk):
    relay.delay(0.01)
    talk.expect(b"get a\r\n", b"VALUE a 0 5\r\nhello\r\nEND\r\n")


def test_truncated_answers(relay, talk):
    relay.truncate(10)
    talk.send(b"get a\r\n")
    assert talk.read_exactly(10) == b"VALUE a 0 "
    assert talk.closed()
    relay.pass_on()
    assert works(relay)


def test_corrupted_answers(relay, talk):
    relay.corrupt(lambda chunk: chunk.replace(b"hello", b"HELLO"))
    talk.expect(b"get a\r\n", b"VALUE a 0 5\r\nHELLO\r\nEND\r\n")


def test_cut(relay, talk):
    relay.cut()
    assert talk.closed()
    assert works(relay)


def test_refused(relay, talk):
    relay.refuse()
    assert talk.closed()
    with pytest.raises(ConnectionRefusedError):
        Talk(relay.port)
    relay.pass_on()
    assert works(relay)


def test_a_server_that_is_away_means_the_end_for_who_connects(relay, talk):
    relay.server.kill()
    assert talk.closed()
    try:
        other = Talk(relay.port)
    except ConnectionResetError:
        return  # reset before connect() returned
    with other:
        assert other.closed()


def test_every_connection_is_forgotten_when_it_ends(relay, talk):
    talk.close()
    for _ in range(10):
        works(relay)
    eventually(lambda: relay.connections == 0, what="the relay has no connection")
