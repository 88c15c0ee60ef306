"""What servers say of themselves, as one: the answers of a pool's primaries to `stats`, in sum or side by side."""

from collections.abc import Sequence

from gmproxy.client import stat_names
from gmproxy.protocol.key_dump import OF_SERVER
from gmproxy.protocol.numbers import plain_number

#: Names and values of lines.
Pairs = list[tuple[str, object]]

#: Label of a server -> the names and values of its reply to `stats`.
ServerReplies = dict[str, list[tuple[str, str]]]

#: What stands for a value that nobody has told.
UNKNOWN = 0


def general(replies: ServerReplies, former: ServerReplies) -> dict[str, object]:
    """{name: value} of `stats`: of all names that memcached 1.6.45 has, and of the whole numbers that servers have beside them. `former`: what
    servers said before that have no answer now; their counters count, or a sum would fall and rise again."""
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
    """{name: value} of `stats settings`: all that memcached 1.6.45 has."""
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
    """The lines of `stats items` or `stats slabs`: those about a slab class for each server by itself, the others in sum. `labels`: of all servers;
    the place of a server among them is its number."""
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
    """The lines of `stats sizes`: how many items of each size there are, on all servers."""
    counts: dict[int, int] = {}
    words: dict[str, str] = {}
    for name, value in (pair for pairs in replies.values() for pair in pairs):
        size, count = plain_number(name), plain_number(value)
        if size is not None and count is not None:
            counts[size] = counts.get(size, 0) + count
        else:
            words[name] = value
    return [*((str(size), count) for size, count in sorted(counts.items())), *words.items()]
