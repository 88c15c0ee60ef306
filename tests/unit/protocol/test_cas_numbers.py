"""The cas numbers of a backup are marked, and a backup receives only its own."""

import pytest
from support.requests import request_for

from gmproxy.protocol import cas_numbers
from gmproxy.protocol.cas_numbers import BACKUP_SET, SHIFT, UNMATCHED

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
    "line, sent",
    [
        (b"cas k 0 0 1 %d\r\nx\r\n" % FIVE, b"cas k 0 0 1 5\r\nx\r\n"),
        (b"cas k 0 0 1 5\r\nx\r\n", b"cas k 0 0 1 %d\r\nx\r\n" % UNMATCHED),
        (b"cas k 0 0 1 %d\r\nx\r\n" % (FIVE + (1 << SHIFT)), b"cas k 0 0 1 %d\r\nx\r\n" % UNMATCHED),
        (b"cas k 0 0 1 %d\r\nx\r\n" % UNMATCHED, b"cas k 0 0 1 %d\r\nx\r\n" % UNMATCHED),
        (b"ms k 2 C%d\r\nC5\r\n" % FIVE, b"ms k 2 C5\r\nC5\r\n"),
        (b"md C5 C5\r\n", b"md C5 C%d\r\n" % UNMATCHED),
        (b"add k 0 0 1\r\nx\r\n", b"add k 0 0 1\r\nx\r\n"),
    ],
)
def test_what_a_backup_gets(line, sent):
    assert cas_numbers.line_for(request_for(line), BACKUP_SET) == sent
