"""The format of a journal file: what is written is read, and damage is noticed."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmproxy.shared import journal_format as form
from gmproxy.shared.journal_format import Pending

NAMES = {0: b"POOL primary 10.0.0.1:11211", 1: b" backup [::1]:11211", 2000: b"\xff\0", 5000: b"unix:/x" * 100}


def read(data):
    return form.read(io.BytesIO(data), len(data))


def of(pending):
    return pending.keys, pending.everything


class Written:
    """A file, batch by batch. `ends`: (size, what is pending) after each; `pending` by a model."""

    def __init__(self):
        self.data, self.checksum = form.header()
        self.pending = Pending()
        self.ends = [(len(self.data), ({}, set()))]
        self.add(b"".join(form.name_record(number, name) for number, name in NAMES.items()))

    def add(self, records):
        batch, self.checksum = form.batch(records, self.checksum)
        self.data += batch
        keys = {name: set(found) for name, found in self.pending.keys.items()}
        self.ends.append((len(self.data), (keys, set(self.pending.everything))))

    def step(self, records):
        """[(what, number, keys)]"""
        data = b""
        for what, number, keys in records:
            name = NAMES[number]
            if what == "settled":
                data += form.settled_record(number)
                self.pending.keys.pop(name, None)
                self.pending.everything.discard(name)
            elif what == "everything":
                data += form.everything_record(number)
                self.pending.keys.pop(name, None)
                self.pending.everything.add(name)
            else:
                data += form.keys_record(number, keys)
                if name not in self.pending.everything:
                    self.pending.keys.setdefault(name, set()).update(keys)
        self.add(data)


RECORDS = st.tuples(
    st.sampled_from(["keys", "keys", "keys", "settled", "everything"]),
    st.sampled_from(sorted(NAMES)),
    st.lists(st.binary(min_size=1, max_size=250), min_size=1, max_size=4),
)
BATCHES = st.lists(st.lists(RECORDS, min_size=1, max_size=4), max_size=4)


def written(batches):
    file = Written()
    for batch in batches:
        file.step(batch)
    return file


@given(BATCHES)
@settings(deadline=None)
def test_what_was_written_is_read(batches):
    file = written(batches)
    pending = read(file.data)
    assert not pending.damaged
    assert of(pending) == file.ends[-1][1]


@given(BATCHES)
@settings(deadline=None, max_examples=15)
def test_cut_anywhere_it_is_whole_batches_or_damaged(batches):
    file = written(batches)
    ends = dict(file.ends)
    for size in range(len(file.data)):
        pending = read(file.data[:size])
        assert bool(pending.damaged) == (size not in ends), size
        if size in ends:
            assert of(pending) == ends[size]


@given(BATCHES, st.integers(1, 255))
@settings(deadline=None, max_examples=15)
def test_every_damaged_byte_is_noticed_or_harmless(batches, difference):
    """Harmless: no less is pending."""
    file = written(batches)
    keys, everything = file.ends[-1][1]
    for at in [*range(64), *range(64, form.HEADER_SIZE, 97), *range(form.HEADER_SIZE, len(file.data))]:
        data = bytearray(file.data)
        data[at] ^= difference
        pending = read(bytes(data))
        if not pending.damaged:
            assert at < form.HEADER_SIZE
            assert everything <= pending.everything
            assert all(name in pending.everything or pending.keys[name] == keys[name] for name in keys)


def test_a_batch_that_is_lost_or_repeated_is_noticed():
    file = written([[("keys", 0, [b"a"])], [("settled", 0, [])], [("keys", 0, [b"b"])]])
    ends = [size for size, _ in file.ends]
    for first, last in zip(ends, ends[1:-1]):
        assert read(file.data[:first] + file.data[last:]).damaged
        assert read(file.data[:last] + file.data[first:]).damaged
    assert read(file.data + bytes(100)).damaged


def set_slot(data, slot, value=form.SET):
    at = form.slot_at(slot)
    return data[:at] + value + data[at + 2 :]


@pytest.mark.parametrize("value", [b"\xff\xff", b"\xff\0", b"\0\1"])
def test_a_slot_that_is_set(value):
    """The server must be flushed, whatever else is known of it."""
    file = written([[("keys", 0, [b"a"]), ("keys", 1, [b"b"]), ("everything", 2000, [])]])
    pending = read(set_slot(file.data, form.slot_of(0), value))
    assert not pending.damaged
    assert of(pending) == ({NAMES[1]: {b"b"}}, {NAMES[0], NAMES[2000]})
    assert read(set_slot(file.data, form.WHOLE_FILE, value)).damaged
    assert read(set_slot(file.data, 4, value)).damaged  # of a server whose name is not known


def test_servers_without_a_slot_of_their_own():
    assert form.slot_of(form.SLOTS - 2) == form.SLOTS - 1
    assert form.slot_of(form.SLOTS - 1) == form.slot_of(5000) == form.WHOLE_FILE
    assert form.slot_at(form.SLOTS) == form.HEADER_SIZE


def test_another_version_is_not_read(monkeypatch):
    monkeypatch.setattr(form, "VERSION", 2)
    data, _ = form.header()
    monkeypatch.undo()
    assert read(data).damaged == "format version 2 is not supported, only 1"


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"#" * 5000, b"gmproxyJ"])
def test_other_files_are_damaged(data):
    assert read(data).damaged


@pytest.mark.parametrize(
    "records",
    [
        b"\x09\0\0\0\0",  # of no kind
        b"\x02\x09\0\0\0",  # of a server without a name
        b"\x02\0\0",
        b"\x04\0\0\0\0\x05\0\0\0aa",
        b"\x01\0\0\0\0\xff\xffname",
    ],
)
def test_records_that_are_not_valid(records):
    """The checksum is right: only another program, or a fault in this one, can have written them."""
    file = Written()
    file.add(records)
    assert read(file.data).damaged == "a record is not valid"


def test_what_comes_before_the_damage_is_read():
    file = written([[("keys", 0, [b"a"])], [("keys", 1, [b"b"])]])
    pending = read(file.data[:-1])
    assert pending.damaged == "a batch is cut off"
    assert of(pending) == ({NAMES[0]: {b"a"}}, set())


def test_no_length_allocates_memory():
    """A damaged length is up to 4 GiB."""
    file = Written()
    data = file.data + b"\xff\xff\xff\xff" + bytes(4)

    class Checked(io.BytesIO):
        def read(self, size=-1):
            assert 0 <= size <= form.HEADER_SIZE
            return super().read(size)

    assert form.read(Checked(data), len(data)).damaged


def test_the_keys_of_a_server():
    file = written([[("keys", 0, [b"a"]), ("everything", 1, [])]])
    pending = read(file.data)
    assert pending.keys_of(NAMES[0]) == {b"a"}
    assert pending.keys_of(NAMES[1]) is None
    assert not pending.keys_of(b"other") and pending.keys_of(b"other") is not None
    pending.damaged = "it is"
    assert pending.keys_of(NAMES[0]) is pending.keys_of(b"other") is None


def test_pending_is_false_if_nothing_is():
    assert not Pending()
    assert Pending(damaged="it is")
