"""Wire samples: what a client sends, how the parser reads it, and what memcached 1.6.18 replies. One file each in samples/.

    # a comment
    > set a 0 0 5\\r\\nhello\\r\\n            said, in as many lines as reads well
    = set a [set a 0 0 5\\r\\n] [hello\\r\\n]  a request: its verb and keys, [the line for the server], [its data block]
    = answer [ERROR\\r\\n]                  a request that is answered without asking anybody
    = answer quiet                       the same, if the client said noreply
    < STORED\\r\\n                          answered by the proxy, and by memcached unless a line below says otherwise
    <1.6.18 ERROR\\r\\n                    all that memcached 1.6.18 answers, where that is something else
    <1.6.38 ERROR\\r\\n                    the same of memcached 1.6.38, where that is not what 1.6.18 answers
    <1.6.45 ERROR\\r\\n                    the same of memcached 1.6.45
    <over-1.6.38 ERROR\\r\\n               all that the proxy answers over memcached 1.6.38 and later, where that is something else

Bytes are written with Python's escapes; {250*k} is 250 times k. `quiet` after a request: the client hears nothing of its answer.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

#: Options of a memcached that always answers the same: its background threads, which hold an item for a moment, now and then make incr
#: and decr store a number without the blanks that otherwise fill it up to its old length.
PREDICTABLE = ("-t", "1", "-o", "no_lru_maintainer,no_lru_crawler")

#: Of memcached, whose answers to what is not right differ.
VERSIONS = ("1.6.18", "1.6.38", "1.6.45")

#: This memcached, and later ones, obey a meta command with an unknown flag; of those between 1.6.18 and this one nobody has looked.
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
    """`answered` by the proxy, over servers that are `newer` than FLAGS_IGNORED_SINCE as it says there; `by_memcached` by those versions of it
    that answer something else."""

    name: str
    said: bytes
    understood: list
    answered: bytes
    by_memcached: dict
    newer: bytes

    def answered_over(self, version):
        """What the proxy answers over memcached of this `version`, which decides about what is handed on to it."""
        return self.newer if self.newer and numbers(version) >= numbers(FLAGS_IGNORED_SINCE) else self.answered

    def answers_of(self, version):
        """What memcached of this `version` answers: as the next older one that is known, and as 1.6.18 if there is none. Before 1.6.45 a
        version of which the sample says nothing answers as the one before it."""
        known = [one for one in VERSIONS if numbers(one) <= numbers(version)] or VERSIONS[:1]
        for one in reversed(known):
            if one in self.by_memcached or not is_old(one):
                return self.by_memcached.get(one, self.answered)
        return self.answered


def is_old(version):
    """True if memcached of this `version` has the answers of 1.6.18 to what is not right, not those of 1.6.45."""
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
    """`data` as it would be written in a sample."""
    text = data.decode("latin-1").encode("unicode_escape").decode()
    return _RUN.sub(lambda match: "{%d*%s}" % (len(match[0]), match[1]), text)


def describe(request):
    """A parsed request as it stands in a sample."""
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
    """`answers` without what differs from server to server, and from second to second: unique numbers and times."""
    for pattern, words in _OWN_NUMBERS:
        answers = pattern.sub(words, answers)
    return answers


def ways_to_cut(data, random):
    """Yields (name of the way, pieces of `data`)."""
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
