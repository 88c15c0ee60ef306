"""The cas number in the reply to `gets` is valid for the server that sent it only: each server numbers its items itself."""

import pytest
from support.packets import ask, count, packet, store
from support.talk import storage, value
from support.timing import eventually

#: Writes that only the primary has received: its numbers are ahead of those of the backup by this.
AHEAD = 5


#: The mark of the numbers of backups.
OF_BACKUP = 1 << 56


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


def test_a_number_that_belongs_to_the_other_server_is_not_sent(pair):
    front, primary, backup = pair
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"B"), b"STORED\r\n")
        number = number_of(talk)
        eventually(lambda: number_at(backup), what="the copy is there")
        before = primary.stats()["cmd_set"]
        talk.expect(storage(b"cas", b"k", b"mine", more=b" %d" % (number_at(backup) + OF_BACKUP)), b"EXISTS\r\n")
        talk.expect(b"ms k 1 C%d q k O7\r\nx\r\n" % OF_BACKUP, b"EX kk O7\r\n")
        talk.expect(b"md k C%d\r\n" % OF_BACKUP, b"EX\r\n")
        talk.send(storage(b"cas", b"k", b"mine", more=b" %d noreply" % OF_BACKUP))
        talk.expect(b"get k\r\n", value(b"k", b"B") + b"END\r\n")
        facts = primary.stats()
        assert (facts["cmd_set"], facts["cas_badval"]) == (before, 0)
        assert front.stats()["cas_badval"] == 3, "they are counted as if the server had replied"
        primary.kill()
        before = backup.stats()["cmd_set"]
        talk.expect(storage(b"cas", b"k", b"mine", more=b" %d" % number), b"EXISTS\r\n")
        talk.expect(b"ma k C%d\r\n" % number, b"EX\r\n")
        assert backup.stats()["cmd_set"] == before
        talk.in_step()


@pytest.fixture
def warming(pair):
    """As `pair`; the primary has been restarted, and the backup has k = 5, of which the primary has nothing."""
    front, primary, backup = pair
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"5"), b"STORED\r\n")
        eventually(lambda: number_at(backup), what="the copy is there")
        primary.restart()
        eventually(lambda: talk.ask(b"get other\r\n", b"END\r\n") and front.stats()["backends_ejected"] == 0, what="the primary is back")
    return pair


@pytest.mark.parametrize("request_line", [b"gets k\r\n", b"mg k c v\r\n"], ids=["gets", "mg"])
def test_the_number_of_a_value_from_the_backup_is_marked(warming, request_line):
    """It is no number of the primary, which has another one for the same value. While the primary is down it is good for the backup."""
    front, primary, backup = warming
    with front.talk() as talk:
        if request_line.startswith(b"gets"):
            number = int(talk.ask(request_line, b"END\r\n").split()[4])
        else:
            number = int(talk.ask(request_line, b"5\r\n").split()[2][1:])
        assert number == number_at(backup) + OF_BACKUP
        talk.expect(storage(b"cas", b"k", b"mine", more=b" %d" % number), b"EXISTS\r\n")
        eventually(lambda: number_of(talk) < OF_BACKUP, what="the primary was filled")
        primary.kill()
        talk.expect(b"get k\r\n", value(b"k", b"5") + b"END\r\n")  # now the proxy knows that the primary fails
        talk.expect(storage(b"cas", b"k", b"mine", more=b" %d" % number), b"STORED\r\n")
        talk.in_step()


def test_a_binary_client_is_refused_the_number_of_the_other_server(warming):
    front, primary, backup = warming
    with front.talk() as talk:
        (found,) = ask(talk, packet("get", b"k"))
        assert found.cas == number_at(backup) + OF_BACKUP
        for refused in (
            store("set", b"k", b"mine", cas=found.cas),
            packet("delete", b"k", cas=found.cas),
            count("incr", b"k", cas=found.cas),
        ):
            (answer,) = ask(talk, refused)
            assert answer.status == KEY_EXISTS
        assert primary.stats()["cmd_set"] <= 1, "it has received the fill alone"


#: The status of a packet.
KEY_EXISTS = 2
