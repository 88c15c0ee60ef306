"""Wire samples: what a client sends, how the parser reads it, and what gmproxy and memcached reply. One file each in samples/.

    # a comment
    > set a 0 0 5\\r\\nhello\\r\\n            the client sends this; several lines are joined
    = set a [set a 0 0 5\\r\\n] [hello\\r\\n]  a request: its verb and keys, [the line for the server], [its data block]
    = answer [ERROR\\r\\n]                  the proxy replies itself, without a server
    = answer quiet                       the same with noreply
    < STORED\\r\\n                          the reply of the proxy, and of memcached if no line below differs
    <1.6.18 ERROR\\r\\n                    all replies of memcached 1.6.18, if they differ
    <1.6.38 ERROR\\r\\n                    all replies of memcached 1.6.38, if they differ from those of 1.6.18
    <1.6.45 ERROR\\r\\n                    all replies of memcached 1.6.45, if they differ from those of the proxy
    <over-1.6.38 ERROR\\r\\n               all replies of the proxy over memcached 1.6.38 and later, if they differ

Bytes are written with Python's escapes; {250*k} is 250 times k. `quiet` after a request: the client receives no reply to it.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

#: Options that make the replies of memcached repeatable. Otherwise its background threads sometimes hold an item: incr and decr then
#: store a number without the blanks that fill it up to its previous length.
PREDICTABLE = ("-t", "1", "-o", "no_lru_maintainer,no_lru_crawler")

#: Versions of memcached whose replies to invalid requests differ.
VERSIONS = ("1.6.18", "1.6.38", "1.6.45")

#: memcached of this version or later executes a meta command with an unknown flag. Versions between 1.6.18 and this one were not tested.
FLAGS_IGNORED_SINCE = "1.6.38"

FOLDER = Path(__file__).parent / "samples"

_REPEATED = re.compile(r"\{(\d+)\*(.)\}")
_RUN = re.compile(r"(.)\1{29,}", re.DOTALL)
_OWN_NUMBERS = (
    (re.compile(rb"^(VALUE [^ \n]+ \d+ \d+) \d+\r\n", re.MULTILINE), rb"\1 CAS\r\n"),
    (re.compile(rb"^((?:HD|VA \d+)(?: [^\n]*)?) c\d+", re.MULTILINE), rb"\1 cCAS"),
    (re.compile(rb"^((?:HD|VA \d+)(?: [^\n]*)?) t\d+", re.MULTILINE), rb"\1 tLIFE"),
    (re.compile(rb"^((?:HD|VA \d+)(?: [^\n]*)?) l\d+", re.MULTILINE), rb"\1 lAGE"),
    (re.compile(rb"^(ME [^ \n]+) exp=(-1|-?\d)\d* la=\d+ cas=\d+", re.MULTILINE), rb"\1 exp=\2 la=AGE cas=CAS"),
)


class Sample(NamedTuple):
    """`answered` are the replies of the proxy; `newer` those over servers from version FLAGS_IGNORED_SINCE on, b"" if they are the same;
    `by_memcached` is {version: the replies of memcached} for versions that differ."""

    name: str
    said: bytes
    understood: list
    answered: bytes
    by_memcached: dict
    newer: bytes

    def answered_over(self, version):
        """The replies of the proxy over memcached of this `version`, which matters for requests that the proxy forwards."""
        return self.newer if self.newer and numbers(version) >= numbers(FLAGS_IGNORED_SINCE) else self.answered

    def answers_of(self, version):
        """The replies of memcached of this `version`: those of the latest version in VERSIONS up to it, or of 1.6.18 for older ones. Before 1.6.45 a
        version that the sample does not list replies as the one before it."""
        known = [one for one in VERSIONS if numbers(one) <= numbers(version)] or VERSIONS[:1]
        for one in reversed(known):
            if one in self.by_memcached or not is_old(one):
                return self.by_memcached.get(one, self.answered)
        return self.answered


def is_old(version):
    """True if memcached of this `version` replies to invalid requests as 1.6.18 does, not as 1.6.45."""
    return numbers(version) < (1, 6, 45)


def numbers(version):
    return tuple(map(int, version.split(".")[:3]))


def load(path):
    lines = path.read_text().splitlines()

    def marked(mark):
        return [line[len(mark) + 1 :] for line in lines if line.startswith(mark + " ")]

    said, answered = ("".join(marked(mark)) for mark in "><")
    others = {version: unescape("".join(marked(f"<{version}"))) for version in VERSIONS if marked(f"<{version}")}
    newer = unescape("".join(marked(f"<over-{FLAGS_IGNORED_SINCE}")))
    return Sample(path.stem, unescape(said), marked("="), unescape(answered), others, newer)


def unescape(text):
    text = _REPEATED.sub(lambda match: int(match[1]) * match[2], text)
    return text.encode("ascii").decode("unicode_escape").encode("latin-1")


def escape(data):
    """`data` in the notation of samples."""
    text = data.decode("latin-1").encode("unicode_escape").decode()
    return _RUN.sub(lambda match: "{%d*%s}" % (len(match[0]), match[1]), text)


def describe(request):
    """A parsed request in the notation of samples."""
    if request.command is None:
        words = ["answer"] if request.quiet else ["answer", f"[{escape(request.reply)}]"]
    else:
        keys = request.keys or ([request.key] if request.key else [])
        command, end, block = request.line.partition(b"\n")
        words = [escape(b" ".join([request.command.name, *keys])), f"[{escape(command + end)}]"]
        if block:
            words.append(f"[{escape(block)}]")
    return " ".join(words + ["quiet"] * request.quiet)


def comparable(answers):
    """`answers` without cas numbers and times, which differ between servers and runs."""
    for pattern, words in _OWN_NUMBERS:
        answers = pattern.sub(words, answers)
    return answers


def ways_to_cut(data, random):
    """Yields (name, pieces of `data`) for several ways to cut it."""
    yield "whole", [data]
    yield "by line", data.splitlines(keepends=True)
    if len(data) < 20_000:
        yield "by byte", [data[i : i + 1] for i in range(len(data))]
    for number in range(1, 4):
        places = sorted(random.randrange(len(data) + 1) for _ in range(number * 2))
        yield f"at random {places}", [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)])]


def case(path):
    sample = load(path)
    return pytest.param(sample, id=sample.name)


CASES = [case(path) for path in sorted(FOLDER.glob("*.txt"))]
