"""The cas numbers of a backup are marked, and each set receives only its own."""

import pytest
from support.requests import parsed_request, request_for

from gmproxy.protocol import cas_numbers
from gmproxy.protocol.cas_numbers import BACKUP_SET, PRIMARY_SET, SHIFT

FIVE = 5 | BACKUP_SET << SHIFT


@pytest.mark.parametrize(
    "line, reply, marked",
    [
        (b"gets k\r\n", b"VALUE k 0 2 5\r\nxx\r\nEND\r\n", b"VALUE k 0 2 %d\r\nxx\r\nEND\r\n" % FIVE),
        (b"gets k\r\n", b"END\r\n", b"END\r\n"),
        (b"gets k\r\n", b"SERVER_ERROR timeout x\r\n", b"SERVER_ERROR timeout x\r\n"),
        (b"gats 9 k\r\n", b"VALUE k 1 0 5\r\n\r\nEND\r\n", b"VALUE k 1 0 %d\r\n\r\nEND\r\n" % FIVE),
        (b"get k\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n", b"VALUE k 0 1\r\nx\r\nEND\r\n"),
        (b"mg k f c v\r\n", b"VA 3 f0 c5\r\nc7 \r\n", b"VA 3 f0 c%d\r\nc7 \r\n" % FIVE),
        (b"mg k v\r\n", b"VA 2\r\nc5\r\n", b"VA 2\r\nc5\r\n"),
        (b"mg k c\r\n", b"EN\r\n", b"EN\r\n"),
    ],
)
def test_marks(line, reply, marked):
    request = request_for(line)
    request.reply = reply
    cas_numbers.mark(request, BACKUP_SET)
    assert request.reply == marked


def test_a_value_that_looks_like_a_header_is_left_as_it_is():
    request = request_for(b"gets a b\r\n", [b"a", b"b"])
    request.has_value_offsets = True
    request.reply = b"VALUE a 0 15 5\r\nVALUE b 0 1 5\r\n\r\nVALUE b 0 1 6\r\ny\r\nEND\r\n"
    cas_numbers.mark(request, BACKUP_SET)
    assert request.reply == b"VALUE a 0 15 %d\r\nVALUE b 0 1 5\r\n\r\nVALUE b 0 1 %d\r\ny\r\nEND\r\n" % (FIVE, FIVE + 1)
    assert request.has_value_offsets is False, "the values are in other places now"


@pytest.mark.parametrize(
    "line, of_set",
    [
        (b"cas k 0 0 1 5\r\nx\r\n", PRIMARY_SET),
        (b"cas k 0 0 1 %d noreply\r\nx\r\n" % FIVE, BACKUP_SET),
        (b"cas k 0 0 1 %d\r\nx\r\n" % (FIVE + (1 << SHIFT)), PRIMARY_SET),
        (b"cas k 0 0 1 %d\r\nx\r\n" % (FIVE | 1 << 63), PRIMARY_SET),
        (b"cas k 0 0 1 %d\r\nx\r\n" % (2**64 - 1), PRIMARY_SET),
        (b"ms k 2 C%d\r\nC5\r\n" % FIVE, BACKUP_SET),
        (b"ms k 2 T0 MR c C5 q\r\nC5\r\n", PRIMARY_SET),
        (b"ms CC 2 ME\r\nC5\r\n", None),
        (b"md C5 C%d\r\n" % FIVE, BACKUP_SET),
        (b"md C5 C0\r\n", PRIMARY_SET),
        (b"ma k N0 C%d\r\n" % FIVE, BACKUP_SET),
        (b"add k 0 0 1\r\nx\r\n", None),
        (b"replace k 0 0 1\r\nx\r\n", None),
    ],
)
def test_the_set_of_a_number(line, of_set):
    request = parsed_request(line)
    assert request.command.conditional
    assert cas_numbers.set_of(request) == of_set


@pytest.mark.parametrize(
    "line, sent",
    [
        (b"cas k 0 0 1 %d\r\nx\r\n" % FIVE, b"cas k 0 0 1 5\r\nx\r\n"),
        (b"ms k 2 C%d\r\nC5\r\n" % FIVE, b"ms k 2 C5\r\nC5\r\n"),
        (b"md C5 q C%d\r\n" % FIVE, b"md C5 C5\r\n"),
        (b"add k 0 0 1\r\nx\r\n", b"add k 0 0 1\r\nx\r\n"),
    ],
)
def test_what_a_backup_gets(line, sent):
    assert cas_numbers.line_without_mark(parsed_request(line)) == sent


@pytest.mark.parametrize(
    "line, reply",
    [
        (b"cas k 0 0 1 5\r\nx\r\n", b"EXISTS\r\n"),
        (b"ms k 1 C99 k O12 c f t s v\r\nx\r\n", b"EX kk O12 c0\r\n"),
        (b"ms aw== 1 b C99 k O1 F5\r\nx\r\n", b"EX kaw== b O1\r\n"),
        (b"md k C99 k O7 q\r\n", b"EX kk O7\r\n"),
        (b"md aw== b C99 O7 k\r\n", b"EX O7 kaw== b\r\n"),
        (b"ma k C99 k O8 v c t N0\r\n", b"EX kk O8\r\n"),
        (b"md k C99\r\n", b"EX\r\n"),
    ],
)
def test_another_number_is_refused_as_by_memcached(line, reply):
    """These are the replies of memcached 1.6.18 to the same lines; that of 1.6.45 to the ms also has the size of the item, if s is requested."""
    assert cas_numbers.exists_reply(parsed_request(line)) == reply
