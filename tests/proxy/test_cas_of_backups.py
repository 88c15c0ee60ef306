"""The cas number in the reply to `gets` is valid for the server that sent it only: each server numbers its items itself."""

import pytest
from support.talk import storage, value
from support.timing import eventually

#: Writes that only the primary has received: its numbers are ahead of those of the backup by this.
AHEAD = 5


@pytest.fixture
def pair(memcached, proxy):
    primary, backup = memcached(), memcached()
    with primary.talk() as talk:
        for number in range(AHEAD):
            talk.expect(storage(b"set", b"earlier", b"%d" % number), b"STORED\r\n")
    front = proxy("-s", primary.address, "-b", backup.address)
    return front, primary, backup


def number_of(talk):
    """The cas number that `gets k` returns."""
    return int(talk.ask(b"gets k\r\n", b"END\r\n").split()[4])


def number_at(backup):
    with backup.talk() as talk:
        found = talk.ask(b"gets k\r\n", b"END\r\n").split()
    return int(found[4]) if len(found) > 4 else 0


#: How a client writes a key on condition that it has a number: the request for a number, the reply if it has another number, and if it has this one.
CONDITIONAL = pytest.mark.parametrize(
    "request_for, other, same",
    [
        (lambda number: storage(b"cas", b"k", b"mine", more=b" %d" % number), b"EXISTS\r\n", b"STORED\r\n"),
        (lambda number: b"ms k 4 C%d\r\nmine\r\n" % number, b"EX\r\n", b"HD\r\n"),
        (lambda number: b"md k C%d\r\n" % number, b"EX\r\n", b"HD\r\n"),
    ],
    ids=["cas", "ms", "md"],
)


@CONDITIONAL
def test_a_number_of_the_primary_matches_no_value_of_the_backup(pair, request_for, other, same):
    front, primary, backup = pair
    with front.talk() as talk, front.talk() as writer:
        talk.expect(storage(b"set", b"k", b"B"), b"STORED\r\n")
        number = number_of(talk)
        for _ in range(2 * number):
            writer.expect(storage(b"set", b"k", b"C"), b"STORED\r\n")
            eventually(lambda: writer.ask(b"get k\r\n", b"END\r\n") and number_at(backup), what="the copy is there")
            if number_at(backup) == number:
                break
        assert number_at(backup) == number, "or nothing is proved"
        primary.kill()
        talk.expect(request_for(number), other)
        talk.expect(b"get k\r\n", value(b"k", b"C") + b"END\r\n")
        talk.in_step()


@CONDITIONAL
def test_a_number_of_the_backup_is_good_for_the_backup(pair, request_for, other, same):
    front, primary, backup = pair
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"B"), b"STORED\r\n")
        eventually(lambda: number_at(backup), what="the copy is there")
        primary.kill()
        number = number_of(talk)
        talk.expect(request_for(number), same)
        talk.expect(
            request_for(number), b"EXISTS\r\n" if other == b"EXISTS\r\n" else b"NF\r\n" if request_for(0).startswith(b"md") else other
        )
        talk.in_step()


def test_a_number_of_the_backup_matches_no_value_of_the_primary(pair):
    front, primary, backup = pair
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"B"), b"STORED\r\n")
        eventually(lambda: number_at(backup), what="the copy is there")
        primary.kill()
        number = number_of(talk)
        primary.restart()
        eventually(lambda: talk.ask(b"get k\r\n", b"END\r\n") and front.stats()["backends_ejected"] == 0, what="the primary is back")
        for _ in range(2 * AHEAD):  # whatever numbers the primary assigns by now
            talk.expect(storage(b"set", b"k", b"C"), b"STORED\r\n")
            talk.expect(storage(b"cas", b"k", b"mine", more=b" %d" % number), b"EXISTS\r\n")
        talk.in_step()
