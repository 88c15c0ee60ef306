"""Joins the replies of a pool's primaries to `stats` into one: summed, or one after the other.

All functions: loop callback or greenlet; none blocks.
"""

from collections.abc import Sequence

from gmproxy.client import stat_names
from gmproxy.protocol.key_dump import OF_SERVER
from gmproxy.protocol.numbers import plain_number

#: (name, value) of each line.
Pairs = list[tuple[str, object]]

#: {label of the server: [(name, value)] of its reply to `stats`}
ServerReplies = dict[str, list[tuple[str, str]]]

#: The value where no server has sent one.
UNKNOWN = 0


def general(replies: ServerReplies, former: ServerReplies) -> dict[str, object]:
    """{name: value} of `stats`: all names of memcached 1.6.45, and other names whose values are integers on every server that has them.
    `former`: earlier replies, for servers that have not replied now. Their counters are added: else the sums would fall and rise again."""
    present = [dict(pairs) for pairs in replies.values()]
    known = [*present, *(dict(pairs) for label, pairs in former.items() if label not in replies)]
    totals: dict[str, object] = {}
    for name in dict.fromkeys([*stat_names.GENERAL, *(name for one in known for name in one)]):
        values = [one[name] for one in (present if name in stat_names.GAUGES else known) if name in one]
        if name in stat_names.WORDS:
            neutral = stat_names.WORDS[name]
            totals[name] = next((value for value in values if value != neutral), neutral)
        elif name in stat_names.GENERAL or all(plain_number(value) is not None for value in values):
            totals[name] = _joined(name, [plain_number(value) or 0 for value in values])
    return totals


def _joined(name: str, values: Sequence[int]) -> int:
    return max(values, default=UNKNOWN) if name in stat_names.LARGEST else sum(values)


def settings(replies: ServerReplies) -> dict[str, object]:
    """{name: value} of `stats settings`: all names of memcached 1.6.45."""
    facts = [dict(pairs) for pairs in replies.values()]
    totals: dict[str, object] = {}
    for name in stat_names.SETTINGS:
        values = [one[name] for one in facts if name in one]
        if name in stat_names.SUMMED_SETTINGS or name in stat_names.LARGEST:
            totals[name] = _joined(name, [plain_number(value) or 0 for value in values])
        else:
            totals[name] = values[0] if values else UNKNOWN
    return totals


def classes(replies: ServerReplies, labels: Sequence[str]) -> Pairs:
    """The values of `stats items` or `stats slabs`: those of slab classes for each server apart, the others summed. `labels`: of all servers. The
    number of a slab class is OF_SERVER times the server's number (its position in `labels`, from 1) plus its own."""
    lines: Pairs = []
    whole: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        for name, value in replies.get(label, ()):
            prefix, _, rest = name.rpartition(":")
            group, _, slab = prefix.rpartition(":")
            slab_class, count = plain_number(slab), plain_number(value)
            if slab_class is not None:
                ours = number * OF_SERVER + slab_class
                lines.append((f"{group}:{ours}:{rest}" if group else f"{ours}:{rest}", value))
            elif count is not None:
                whole[name] = whole.get(name, 0) + count
    return [*lines, *whole.items()]


def sizes(replies: ServerReplies) -> Pairs:
    """The values of `stats sizes`: the number of items of each size, summed."""
    counts: dict[int, int] = {}
    words: dict[str, str] = {}
    for name, value in (pair for pairs in replies.values() for pair in pairs):
        size, count = plain_number(name), plain_number(value)
        if size is not None and count is not None:
            counts[size] = counts.get(size, 0) + count
        else:
            words[name] = value
    return [*((str(size), count) for size, count in sorted(counts.items())), *words.items()]
