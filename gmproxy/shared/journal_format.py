"""The format of a journal file: the pending invalidations of one worker. No clock, no I/O but reading.

    header    HEADER_SIZE bytes: magic, format version, a random number, their checksum; from SLOTS_AT on, slots of two bytes
    batches   length and checksum (4 bytes each), then records: one batch for each write

Numbers are little-endian. The records of a batch are appended in one write, so a process that is killed leaves whole batches, or one that is cut
off at the end. The checksum of a batch continues that of the one before it: a batch that is lost or repeated is noticed, too.

    NAME         number of a server, length (2 bytes), name: other records have the number
    SETTLED      number: nothing is pending on the server, earlier records of it are void
    EVERYTHING   number: any key may be stale on the server, so it must be flushed
    KEYS         number, count, a byte with the length of each key, the keys

Slot 0 belongs to the file, slot N + 1 to the server with the number N. A slot that is not zero means that records are missing, because they could
not be written: the server must be flushed; with slot 0, all servers. The header is written when the file is made, so a slot can be set even if
the disk is full. Two bytes: a single damaged byte never turns a set slot into an empty one.
"""

import secrets
import struct
from collections.abc import Collection, Sequence
from typing import BinaryIO
from zlib import crc32

MAGIC = b"gmproxyJ"

#: A file with another version is not read, as if it were damaged. Increase it with each change of the format.
VERSION = 1

HEADER_SIZE = 4096
SLOTS_AT = 64
SLOT_SIZE = 2
SLOTS = (HEADER_SIZE - SLOTS_AT) // SLOT_SIZE

#: The slot of the file, and what slots contain.
WHOLE_FILE = 0
EMPTY, SET = b"\0\0", b"\xff\xff"

#: Maximum length of a key and of a server's name.
MAX_KEY = 255
MAX_NAME = 65535

_HEAD = struct.Struct("<8sHxx8s")
_CHECKSUM = struct.Struct("<I")
_BATCH = struct.Struct("<II")
_RECORD = struct.Struct("<BI")
_LENGTH = struct.Struct("<H")
_COUNT = struct.Struct("<I")

_NAME, _SETTLED, _EVERYTHING, _KEYS = range(1, 5)


class Damaged(Exception):
    """The file is damaged, cut off, or of another version. `str()` says which."""


class Pending:
    """The pending invalidations that a journal contains.

    keys         {name of a server: keys to delete there}; no set is empty
    everything   names of servers that must be flushed; these are not in `keys`
    damaged      "" , or why more may be pending than is known: then every server of the service must be flushed
    """

    def __init__(self, damaged: str = "") -> None:
        self.keys: dict[bytes, set[bytes]] = {}
        self.everything: set[bytes] = set()
        self.damaged = damaged

    def __bool__(self) -> bool:
        return bool(self.keys or self.everything or self.damaged)

    def keys_of(self, server: bytes) -> Collection[bytes] | None:
        """The keys to delete on `server`; None if it must be flushed."""
        return None if self.damaged or server in self.everything else self.keys.get(server, ())


# -- writing


def header() -> tuple[bytes, int]:
    """(a new header, the checksum that the first batch continues)."""
    head = _HEAD.pack(MAGIC, VERSION, secrets.token_bytes(8))
    checksum = crc32(head)
    return (head + _CHECKSUM.pack(checksum)).ljust(HEADER_SIZE, b"\0"), checksum


def batch(records: bytes, previous: int) -> tuple[bytes, int]:
    """(a batch of `records`, its checksum). `previous`: the checksum of the batch before."""
    checksum = _checksum(records, previous)
    return _BATCH.pack(len(records), checksum) + records, checksum


def name_record(number: int, name: bytes) -> bytes:
    return _RECORD.pack(_NAME, number) + _LENGTH.pack(len(name)) + name


def settled_record(number: int) -> bytes:
    return _RECORD.pack(_SETTLED, number)


def everything_record(number: int) -> bytes:
    return _RECORD.pack(_EVERYTHING, number)


def keys_record(number: int, keys: Sequence[bytes]) -> bytes:
    """Raises ValueError if a key is longer than MAX_KEY."""
    return b"".join((_RECORD.pack(_KEYS, number), _COUNT.pack(len(keys)), bytes(map(len, keys)), *keys))


def slot_of(number: int) -> int:
    """The slot of the server `number`. More servers than slots share that of the file."""
    return number + 1 if number + 1 < SLOTS else WHOLE_FILE


def slot_at(slot: int) -> int:
    """The offset of `slot` in the file."""
    return SLOTS_AT + SLOT_SIZE * slot


def is_set(head: bytes, slot: int) -> bool:
    """True if `slot` is set in the header `head`."""
    return head[slot_at(slot) : slot_at(slot + 1)] != EMPTY


def _checksum(records: bytes, previous: int) -> int:
    return crc32(records, crc32(_COUNT.pack(len(records)), previous))


# -- reading


def read(file: BinaryIO, size: int) -> Pending:
    """What the open `file` of `size` bytes contains; if it is damaged, what comes before the damage. Raises OSError."""
    reader = _Reader()
    try:
        head = file.read(HEADER_SIZE)
        checksum = check_header(head)
        left = size - HEADER_SIZE
        while prefix := file.read(_BATCH.size):
            left -= len(prefix)
            if len(prefix) < _BATCH.size:
                raise Damaged("the last batch is cut off")
            length, expected = _BATCH.unpack(prefix)
            if length > left:  # checked first: a damaged length must not allocate memory
                raise Damaged("a batch is cut off")
            records = file.read(length)
            left -= length
            checksum = _checksum(records, checksum)
            if len(records) < length or checksum != expected:
                raise Damaged("the checksum of a batch is wrong")
            reader.apply(records)
        reader.apply_slots(head)
    except Damaged as error:
        reader.pending.damaged = str(error)
    except (struct.error, KeyError, IndexError):
        reader.pending.damaged = "a record is not valid"
    return reader.pending


def check_header(head: bytes) -> int:
    """Returns the checksum that the first batch continues. Raises Damaged."""
    if len(head) < HEADER_SIZE:
        raise Damaged("the header is cut off")
    magic, version, _ = _HEAD.unpack_from(head)
    checksum: int = _CHECKSUM.unpack_from(head, _HEAD.size)[0]
    if magic != MAGIC or checksum != crc32(head[: _HEAD.size]):
        raise Damaged("the header is not valid")
    if version != VERSION:
        raise Damaged(f"format version {version} is not supported, only {VERSION}")
    return checksum


class _Reader:
    """Applies records, the oldest first.

    pending   the result
    """

    def __init__(self) -> None:
        self.pending = Pending()
        self._names: dict[int, bytes] = {}

    def apply(self, records: bytes) -> None:
        """Raises Damaged, struct.error, KeyError, IndexError if a record is not valid."""
        keys, everything = self.pending.keys, self.pending.everything
        at = 0
        while at < len(records):
            kind, number = _RECORD.unpack_from(records, at)
            at += _RECORD.size
            if kind == _NAME:
                length = _LENGTH.unpack_from(records, at)[0]
                at += _LENGTH.size + length
                self._names[number] = records[at - length : at]
                continue
            name = self._names[number]
            if kind == _SETTLED:
                keys.pop(name, None)
                everything.discard(name)
            elif kind == _EVERYTHING:
                keys.pop(name, None)
                everything.add(name)
            elif kind == _KEYS:
                count = _COUNT.unpack_from(records, at)[0]
                at += _COUNT.size
                found = set() if name in everything else keys.setdefault(name, set())
                end = at + count
                for length in records[at:end]:
                    found.add(records[end : end + length])
                    end += length
                at = end
            else:
                raise Damaged("a record is not valid")
        if at != len(records):
            raise Damaged("a record is not valid")

    def apply_slots(self, head: bytes) -> None:
        """Raises Damaged if records of unknown servers are missing."""
        if head.count(0, SLOTS_AT) == HEADER_SIZE - SLOTS_AT:
            return
        for slot in range(SLOTS):
            if not is_set(head, slot):
                continue
            name = self._names.get(slot - 1)
            if name is None:
                raise Damaged("records could not be written")
            self.pending.keys.pop(name, None)
            self.pending.everything.add(name)
