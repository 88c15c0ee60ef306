"""The keys of a server, from its listing (lru_crawler metadump): a sample of them, or all. Greenlet only: blocks for the server and the disk."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gmproxy.backend.dump_reader import Items
from gmproxy.backend.key_sample import KeySample, key_of
from gmproxy.protocol.key_dump import KeyDump
from gmproxy.system.spill import Spill

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend

#: Maximum bytes of the listing of one server if all keys are read, and bytes of it that are parsed at once.
MAX_LISTING = 1024 * 1024 * 1024
LISTING_STEP = 16 * 1024

METADUMP = KeyDump(b"metadump", [b"all"], 1)
METADUMP_LINE = b"lru_crawler metadump all\r\n"


class NotListed(Exception):
    """The server does not list its keys; the text has the reason."""


def sample_of(listings: Any, backend: "Backend", size: int) -> KeySample:
    """At most `size` keys of `backend`, chosen at random. `listings`: gmproxy.client.key_listings.KeyListings of the pool. Raises NotListed."""
    sample = KeySample(size)
    _check(listings.read_listing(METADUMP, METADUMP_LINE, backend, sample, KeySample.add_chunk))
    return sample


def all_keys(listings: Any, backend: "Backend") -> Iterator[bytes]:
    """All keys of `backend`. The listing is complete before the first is returned, and the server not needed any more. Raises NotListed."""
    with Spill(MAX_LISTING) as spill:
        items = _check(listings.read_listing(METADUMP, METADUMP_LINE, backend, spill, listings.write_spill))
        rest = b""
        for begin in range(items.begin, items.end, LISTING_STEP):
            lines = (rest + listings.read_spill(spill, begin, min(LISTING_STEP, items.end - begin))).split(b"\n")
            rest = lines.pop()
            yield from filter(None, map(key_of, lines))


def _check(items: Items | bytes) -> Items:
    if not isinstance(items, Items):
        raise NotListed(f"not listed: {items.decode(errors='replace').strip()}")
    return items
