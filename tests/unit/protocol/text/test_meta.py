"""Meta commands parsed, and which flags of a reply the client receives. memcached's replies to each are in tests/wire/samples."""

import base64

import pytest

from gmproxy.protocol import limits
from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.text import meta
from gmproxy.protocol.text import requests as text


def understood(line):
    parser = text.TextParser(1000)
    parser.stream.feed(line)
    return parser.next_request()


def heard(line, reply):
    """What the client that sent `line` receives for a server's `reply`."""
    request = understood(line)
    request.reply = reply
    return reply if request.renderer is None else request.renderer.render(request)


# -- keys


@pytest.mark.parametrize("key", [b"\0", b"foo", b"foo bar", b"\xff\xfe\r\n", b"ab"])
def test_a_key_in_base64_there_and_back(key):
    assert meta.encoded(key) == base64.b64encode(key)
    assert meta.decoded(meta.encoded(key)) == key


@pytest.mark.parametrize(
    "word, key",
    [
        (b"", b""),
        (b"Zg", b""),
        (b"Zg=", b""),
        (b"Zg==", b"f"),
        (b"Zm8=", b"fo"),
        (b"Z===", b""),
        (b"====", b""),
        (b"Z!m\x009v", b"foo"),
        (b"Zg==Zm9v", b"f"),
        (b"Zm9vZg==", b"foof"),
        (b"!!!!", b""),
    ],
)
def test_base64_is_read_as_memcached_reads_it(word, key):
    assert meta.decoded(word) == key


@pytest.mark.parametrize("key, text_", [(b"a", True), (b"\xff\t", True), (b"a b", False), (b"a\r", False), (b"\0", False), (b"a\n", False)])
def test_what_may_stand_in_a_line(key, text_):
    assert meta.is_text(key) is text_


def test_a_request_is_about_the_key_as_the_server_stores_it():
    request = understood(b"mg Zm9v v b\r\n")
    assert (request.key, request.line) == (b"foo", b"mg Zm9v v b\r\n")


# -- flags


@pytest.mark.parametrize(
    "line, sent",
    [
        (b"mg a q v\r\n", b"mg a v\r\n"),
        (b"mg  a   O1  k q\n", b"mg a O1 k\r\n"),
        (b"ms a 1 q T5 c\r\nx\r\n", b"ms a 1 T5 c\r\nx\r\n"),
        (b"md a q\r\n", b"md a\r\n"),
        (b"ma a v q D5\r\n", b"ma a v D5\r\n"),
        (b"mg Z!m9v b v\r\n", b"mg Zm9v b v\r\n"),
        (b"mg a Pone Ltwo v\r\n", b"mg a Pone Ltwo v\r\n"),
        (b"me a v q\r\n", b"me a\r\n"),
    ],
)
def test_no_server_is_told_to_be_quiet(line, sent):
    assert understood(line).line == sent


@pytest.mark.parametrize(
    "line, facts",
    [
        (b"mg a v\r\n", "is_read idempotent"),
        (b"mg a T5\r\n", "is_read is_write idempotent"),
        (b"mg a N5\r\n", "is_read"),
        (b"mg a R5 v\r\n", "is_read"),
        (b"mg a R5 T5 v\r\n", "is_read is_write"),
        (b"ms a 1\r\nx\r\n", "is_write"),
        (b"ms a 1 MS\r\nx\r\n", "is_write"),
        (b"ms a 1 MA\r\nx\r\n", "is_write"),
        (b"ms a 1 ME\r\nx\r\n", "is_write conditional"),
        (b"ms a 1 MR\r\nx\r\n", "is_write conditional"),
        (b"ms a 1 C5\r\nx\r\n", "is_write conditional"),
        (b"md a\r\n", "is_write"),
        (b"md a C5\r\n", "is_write conditional"),
        (b"ma a\r\n", "is_write"),
        (b"ma a C5\r\n", "is_write conditional"),
        (b"me a\r\n", "idempotent"),
    ],
)
def test_what_a_command_is_by_its_flags(line, facts):
    command = understood(line).command
    assert [fact for fact in ("is_read", "is_write", "conditional", "idempotent") if getattr(command, fact)] == facts.split()
    assert command.is_meta and command.name == line[:2]


def test_a_line_stays_shorter_than_what_a_server_reads_in_pieces():
    line = b"mg %b P%b v\r\n" % (b"k" * limits.MAX_KEY, b"p" * limits.MAX_META_FLAGS)
    assert understood(line).reply == b"CLIENT_ERROR line too long\r\n"
    fits = understood(b"mg %b P%b v\r\n" % (b"k" * limits.MAX_KEY, b"p" * (limits.MAX_META_FLAGS - 2)))
    assert len(fits.line) < limits.MAX_UNFINISHED_LINE


def test_a_flag_of_a_newer_memcached_is_for_the_server_to_judge():
    request = understood(b"ms a 1 E5 T9\r\nx\r\n")
    assert (request.reply, request.line) == (None, b"ms a 1 E5 T9\r\nx\r\n")
    request = understood(b"ms a 1 Y5 T9\r\nx\r\n")
    assert (request.reply, request.line) == (None, b"ms a 1 Y5 T9\r\nx\r\n")
    assert understood(b"ms a 1 Y5 Tx\r\nx\r\n").reply == b"CLIENT_ERROR invalid flag\r\n"
    assert understood(b"ms a 1 E5 Tx\r\nx\r\n").reply == b"CLIENT_ERROR bad token in command line format\r\n"


@pytest.mark.parametrize(
    "said, sent",
    [
        (b"T10\x0bx", b"T10"),
        (b"T+50", b"T50"),
        (b"T\t50", b"T50"),
        (b"N-1", b"N-1"),
        (b"T9999999999", b"T1410065407"),
        (b"T007", b"T007"),
        (b"R-00", b"R0"),
        (b"C+7", b"C7"),
        (b"C18446744073709551615", b"C18446744073709551615"),
        (b"E5\tx", b"E5"),
        (b"F4294967296", b"F0"),
        (b"F\r5", b"F5"),
        (b"D2\x0bx", b"D2"),
        (b"J+3", b"J3"),
        (b"T" + b"0" * 19 + b"5", b"T5"),
    ],
)
@pytest.mark.parametrize("begin, end", [(b"mg a ", b""), (b"ms a 1 ", b"x\r\n"), (b"ma a q ", b""), (b"mg YQ== b ", b"")])
def test_numbers_are_written_plainly(begin, said, sent, end):
    """Every server, and gmproxy where it computes with them, must read the number that was checked."""
    for _ in range(2):  # the second time perhaps as a known form
        line = begin + said + b"\r\n" + end
        assert understood(line).line == begin.replace(b" q", b"") + sent + b"\r\n" + end


@pytest.mark.parametrize("begin", [b"mg a ", b"ms a 4 ", b"md a ", b"ma a "])
@pytest.mark.parametrize("flag", [b"!", b"\x01", b"/x", b"\x7f", b"\xff", b"{5", b":", b"@"])
def test_what_cannot_be_a_flag_is_refused_here(begin, flag):
    """memcached 1.6.45 would read the data block of such an ms as commands."""
    parser = text.TextParser(1000)
    parser.stream.feed(begin + b"Y " + flag + b" c c\r\n" + (b"quit\r\n" if begin.startswith(b"ms") else b"") + b"mn\r\n")
    assert parser.next_request().reply == b"CLIENT_ERROR bad command line format\r\n"
    assert parser.next_request().reply == b"MN\r\n"


@pytest.mark.parametrize("flag, sent", [(b"MAfoo", b"MA"), (b"MA", b"MA"), (b"MExists", b"ME"), (b"MP1", b"MP")])
def test_a_mode_is_one_letter(flag, sent):
    """As memcached 1.6.45 reads it. A backup must not read a different one."""
    request = understood(b"ms a 1 %b C5\r\nx\r\n" % flag)
    assert request.line == b"ms a 1 %b C5\r\nx\r\n" % sent
    assert understood(b"ms a 1 %b\r\nx\r\n" % flag).command.reads_old_value


@pytest.mark.parametrize("more, fits", [(limits.MAX_META_SET_WORDS - 3, True), (limits.MAX_META_SET_WORDS - 2, False)])
def test_an_ms_has_room_for_one_more_flag(more, fits):
    """A T flag may be added while a server is ejected, and memcached must still read its data block."""
    flags = b" ".join(b"%c" % letter for letter in b"chklstuvRNJDFPLIX"[:more])
    flags = flags.replace(b"R", b"R1").replace(b"N", b"N1").replace(b"J", b"J1").replace(b"D", b"D1").replace(b"F", b"F1")
    assert (understood(b"ms a 1 %b\r\nx\r\n" % flags).reply is None) is fits


# -- forms


PLAIN = [
    b"mg a\r\n",
    b"mg a v\r\n",
    b"mg a v f c t\r\n",
    b"mg a q v\r\n",
    b"mg a v k q\r\n",
    b"mg a k\r\n",
    b"mg a T30 v\r\n",
    b"mg a N30 v t\r\n",
    b"ms a 1\r\nx\r\n",
    b"ms a 1 q\r\nx\r\n",
    b"ms a 1 T30 F5\r\nx\r\n",
    b"ms a 1 ME c\r\nx\r\n",
    b"ms a 1 MA\r\nx\r\n",
    b"ms a 001 k\r\nx\r\n",
    b"md a\r\n",
    b"md a q I T30\r\n",
    b"ma a\r\n",
    b"ma a D5 v q\r\n",
    b"ma a MD N0 J5\r\n",
]
ODD = [
    b"mg a v v\r\n",
    b"mg a q q\r\n",
    b"mg a Tx v\r\n",
    b"mg a  v\r\n",
    b"mg a v \r\n",
    b"mg a v\n",
    b"mg\r\n",
    b"mg a v\0 f\r\n",
    b"mg Zm9v b v\r\n",
    b"mg a O1 v\r\n",
    b"mg a " + b" ".join(b"%c" % letter for letter in range(65, 91)) + b"\r\n",
    b"mg %b v\r\n" % (b"k" * 251),
    b"mg %b v\r\n" % (b"k" * 250),
    b"mg a C5\r\n",
    b"mg a E5 v\r\n",
    b"ms a\r\n",
    b"ms a x\r\nx\r\n",
    b"ms a 1 MX\r\nx\r\n",
    b"ms a 1 C5\r\nx\r\n",
    b"ms a 2000\r\n%b\r\n" % (b"x" * 2000),
    b"ms a 1 v v\r\nx\r\n",
    b"ms a 1\r\nxx\r\n",
    b"ms a 1 q\r\nxx\r\n",
    b"ms a -1\r\n",
    b"ms a 1\nx\r\n",
    b"md a MX\r\n",
    b"ma a Dx\r\n",
    b"ma a MX\r\n",
    b"mn\r\n",
    b"me a v\r\n",
]


def facts(line):
    """All visible properties of the request parsed from `line`."""
    request = understood(line)
    edge = request.renderer
    heard_of_miss = None
    if edge is not None:
        request.reply = b"EN\r\n"
        heard_of_miss = edge.render(request)
    return (
        request.command
        and (
            request.command.name,
            request.command.is_read,
            request.command.is_write,
            request.command.reads_old_value,
            request.command.idempotent,
        ),
        request.key,
        request.line.replace(b" 001", b" 1"),
        request.reply,
        request.quiet,
        edge is None,
        heard_of_miss,
    )


@pytest.mark.parametrize("line", PLAIN + ODD)
def test_a_command_in_a_form_that_is_known_means_what_it_meant_at_first(line):
    first = facts(b" " + line)  # a line that starts with a space is never matched with a known form
    assert facts(line) == first
    assert facts(line) == first


@pytest.mark.parametrize("line", PLAIN)
def test_the_form_of_a_usual_command_is_remembered(line):
    name, _, *rest = line.split(b"\r\n")[0].split(b" ")
    flags = b"".join([b" " + flag for flag in (rest[1:] if name == b"ms" else rest)])
    assert meta.META_FORMS.form_for(COMMANDS[name], flags) is meta.META_FORMS.form_for(COMMANDS[name], flags) is not None


@pytest.mark.parametrize(
    "name, flags",
    [
        (b"mg", b" O1"),
        (b"mg", b" v b"),
        (b"mg", b" C5"),
        (b"mg", b" v v"),
        (b"mg", b"  v"),
        (b"mg", b" v "),
        (b"mg", b" Tx"),
        (b"mg", b" ~"),
        (b"mg", b" P" + b"p" * 64),
        (b"me", b""),
        (b"mn", b""),
    ],
)
def test_a_form_that_is_odd_or_of_one_command_is_not(name, flags):
    assert meta.META_FORMS.form_for(COMMANDS[name], flags) is None


def test_a_client_that_invents_forms_costs_no_memory():
    forms = [meta.META_FORMS.form_for(COMMANDS[b"mg"], b" T%d" % number) for number in range(3 * meta.MAX_FORMS)]
    assert None not in forms
    kept = sum(meta.META_FORMS.form_for(COMMANDS[b"mg"], b" T%d" % number) is form for number, form in reversed(list(enumerate(forms))))
    assert 0 < kept <= meta.MAX_FORMS


# -- what the client receives


@pytest.mark.parametrize(
    "line, reply, gets",
    [
        (b"mg a v\r\n", b"VA 1\r\n1\r\n", b"VA 1\r\n1\r\n"),
        (b"mg a v\r\n", b"EN\r\n", b"EN\r\n"),
        (b"mg a v q\r\n", b"EN\r\n", b""),
        (b"mg a O1 q\r\n", b"EN O1\r\n", b""),
        (b"mg a v q\r\n", b"VA 1\r\n1\r\n", b"VA 1\r\n1\r\n"),
        (b"mg a q\r\n", b"HD\r\n", b"HD\r\n"),
        (b"mg a q\r\n", b"SERVER_ERROR timeout a:1\r\n", b"SERVER_ERROR timeout a:1\r\n"),
        (b"ms a 1 q\r\nx\r\n", b"HD\r\n", b""),
        (b"ms a 1 q k\r\nx\r\n", b"HD ka\r\n", b""),
        (b"ms a 1 q\r\nx\r\n", b"NS\r\n", b"NS\r\n"),
        (b"md a q\r\n", b"HD\r\n", b""),
        (b"md a q\r\n", b"NF\r\n", b"NF\r\n"),
        (b"ma a q\r\n", b"HD\r\n", b""),
        (b"ma a q v\r\n", b"VA 1\r\n1\r\n", b""),
        (b"ma a q\r\n", b"NF\r\n", b"NF\r\n"),
    ],
)
def test_who_says_q_does_not_hear_what_was_to_be_expected(line, reply, gets):
    assert heard(line, reply) == gets


@pytest.mark.parametrize(
    "line, gets",
    [
        (b"mg a k O1 v\r\n", b"EN ka O1\r\n"),
        (b"mg a O1 v k\r\n", b"EN O1 ka\r\n"),
        (b"mg Zm9v O1 k b\r\n", b"EN O1 kZm9v b\r\n"),
        (b"mg a v\r\n", b"EN\r\n"),
        (b"mg a v O1 q\r\n", b""),
    ],
)
def test_a_miss_that_no_server_gave_has_all_that_a_server_would_say(line, gets):
    assert heard(line, COMMANDS[b"mg"].miss_reply) == gets
