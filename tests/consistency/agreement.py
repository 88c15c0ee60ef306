"""Compares the memory of a primary and of another server of its keys: its backup or a replica."""

from collections.abc import Iterable

from support.servers import Memcached

#: Keys of one request.
AT_ONCE = 50


def values_on(server: Memcached, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """{key: value} of those `keys` that the server itself has."""
    found, keys = {}, list(keys)
    with server.talk() as talk:
        for start in range(0, len(keys), AT_ONCE):
            talk.send(b"get %b\r\n" % b" ".join(keys[start : start + AT_ONCE]))
            while (line := talk.read_line()) != b"END\r\n":
                assert line.startswith(b"VALUE "), f"a get was answered {line!r}"
                _, key, _, length = line.split()
                found[key] = talk.read_exactly(int(length) + 2)[:-2]
    return found


class Agreement:
    """The keys of a primary and the `other` server, after everything is quiet.

    both     keys that both have
    differ   {key: (value on the primary, value on the other)} of keys that both have, with different values
    """

    def __init__(self, primary: Memcached, other: Memcached, keys: Iterable[bytes]) -> None:
        keys = list(keys)
        first, second = values_on(primary, keys), values_on(other, keys)
        self.keys = len(keys)
        self.both = first.keys() & second.keys()
        self.one_only = len(first.keys() ^ second.keys())
        self.differ = {key: (first[key], second[key]) for key in sorted(self.both) if first[key] != second[key]}

    def __str__(self) -> str:
        return f"{len(self.differ)} of {self.keys} keys differ; {len(self.both)} are on both servers, {self.one_only} on one of them"
