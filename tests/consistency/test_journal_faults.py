"""`journal_dir` on a disk that is full, read-only or damaged, and used by two: after gmproxy is killed nothing old is read, and it never ends by
itself.

In each case a primary stops, all keys are overwritten on its backup, gmproxy is killed and started again, and the primary goes on.
"""

import contextlib
import os
import random
import subprocess

import pytest
from support.servers import run
from support.talk import storage
from support.timing import PROGRAM_TIMEOUT, eventually

from consistency import kills
from consistency.agreement import values_on
from consistency.installation import Installation
from consistency.parameters import SEED, journal
from consistency.test_kills import check_kills

pytestmark = pytest.mark.long

KEYS = [b"key-%d" % number for number in range(300)]

#: Sizes of small file systems: too small for the keys of a load, for a journal, and for anything.
SMALL_DISKS = ("64k", "16k", "4k")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")


@contextlib.contextmanager
def small_disk(path, size):
    """A file system of `size` bytes at `path`."""
    path.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", path)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True, timeout=PROGRAM_TIMEOUT)


def mount(*arguments):
    made = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    if made.returncode:
        pytest.skip(f"no file system can be mounted: {made.stderr.strip()}")


def fill(directory):
    """Leave no room in the file system of `directory`."""
    with open(directory / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def set_all(service, data):
    with service.proxy.talk() as talk:
        talk.expect(b"".join(storage(b"set", key, data) for key in KEYS), b"STORED\r\n" * len(KEYS))


def overwrite_while_stopped(service):
    """All keys are old on the primary, which is stopped, and new on the backup. The primary has missed all writes."""
    set_all(service, b"old")
    eventually(lambda: values_on(service.backups[0], KEYS) == dict.fromkeys(KEYS, b"old"), what="the backup has received copies")
    service.primaries[0].pause()
    set_all(service, b"new")
    eventually(lambda: service.proxy_stats("backends_behind"), what="the primary has missed writes")


def expect_nothing_old(service):
    """The primary goes on."""
    service.primaries[0].resume()
    service.wait_until_restored()
    assert values_on(service.primaries[0], KEYS).get(KEYS[0]) != b"old"
    assert b"old" not in values_on(service.proxy, KEYS).values()
    service.check_logs()


@pytest.fixture
def service(tmp_path):
    """Call it for an Installation. A stopped server goes on at the end."""
    with contextlib.ExitStack() as stack:

        def start(workers=2, directory=None):
            options = journal(tmp_path) if directory is None else ("--journal-dir", directory)
            made = stack.enter_context(Installation(tmp_path, 1, 1, workers, options))
            stack.callback(made.primaries[0].resume)
            return made

        yield start


def columns_of(directory):
    """The files of pending invalidations."""
    return sorted(path for path in directory.iterdir() if path.name.startswith("column-") and path.stat().st_size)


# -- damage between two runs


def flip_bytes(file, chance):
    data = bytearray(file.read_bytes())
    for _ in range(5):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def cut_short(file, chance):
    """As if the last write had been interrupted."""
    os.truncate(file, chance.randrange(file.stat().st_size))


def empty(file, chance):
    os.truncate(file, 0)


def garbage_behind(file, chance):
    with open(file, "ab") as end:
        end.write(chance.randbytes(100))


def intact(file, chance):
    pass


@pytest.mark.parametrize("damage", [intact, flip_bytes, cut_short, empty, garbage_behind])
def test_damaged_file(service, tmp_path, damage):
    chance = random.Random(SEED)
    service = service()
    overwrite_while_stopped(service)
    service.kill_all()
    files = columns_of(tmp_path / "journal")
    assert files
    for file in files:
        damage(file, chance)
    service.start()
    expect_nothing_old(service)


@pytest.mark.parametrize("before, after", [(1, 3), (3, 1), (4, 2)])
def test_other_number_of_workers(service, before, after):
    service = service(workers=before)
    overwrite_while_stopped(service)
    service.kill_all()
    service.workers = after
    service.start()
    expect_nothing_old(service)


def test_second_crash_before_the_first_is_recovered(service):
    service = service()
    overwrite_while_stopped(service)
    for way in (kills.kill_all, kills.kill_a_worker, kills.upgrade, kills.terminate, kills.kill_the_master):
        way(service, random.Random(SEED))
    expect_nothing_old(service)


# -- the disk


@needs_root
@pytest.mark.parametrize("size", SMALL_DISKS)
@pytest.mark.parametrize("moment", ["at the start", "while it runs", "at the next start"])
def test_full_disk(service, tmp_path, size, moment):
    with small_disk(tmp_path / "disk", size) as disk:
        if moment == "at the start":
            fill(disk)
        service = service(directory=disk)
        if moment == "while it runs":
            fill(disk)
        overwrite_while_stopped(service)
        service.kill_all()
        if moment == "at the next start":
            fill(disk)
        service.start()
        assert "journal" in service.proxy.log() or moment == "at the next start"
        expect_nothing_old(service)
        service.kill_all()


@needs_root
@pytest.mark.parametrize("written_before", [True, False])
def test_directory_that_becomes_read_only(service, tmp_path, written_before):
    """Between two runs, with keys pending or without."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        service = service(directory=disk)
        if written_before:
            overwrite_while_stopped(service)
        service.kill_all()
        mount("-o", "remount,ro", disk)
        service.start()
        if not written_before:
            overwrite_while_stopped(service)
            service.kill_all()
            service.start()
        expect_nothing_old(service)
        service.kill_all()


@needs_root
@pytest.mark.parametrize("size", SMALL_DISKS)
def test_kills_with_a_small_disk(tmp_path, size):
    with small_disk(tmp_path / "disk", size) as disk:
        check_kills(tmp_path, 20, options=("--journal-dir", disk))


# -- two instances


def test_second_instance_is_refused(service, tmp_path):
    service = service()
    other = run("-l", "127.0.0.1", "-p", "0", "-f", tmp_path / "other", "-s", service.primaries[0].address, *journal(tmp_path))
    assert other.returncode == 1
    assert f"{tmp_path / 'journal'} is in use by another gmproxy" in other.stderr
    set_all(service, b"new")
    assert values_on(service.proxy, KEYS) == dict.fromkeys(KEYS, b"new")
