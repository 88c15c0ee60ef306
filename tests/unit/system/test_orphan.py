"""Starts a program that is not a child of this process."""

import os
import sys

import pytest
from support.timing import eventually

from gmproxy.system import orphan


def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read()


def is_inheritable(descriptor):
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # the descriptor of the directory that is being listed
        return False


def test_it_is_no_child_of_ours_and_has_its_words_and_environment(tmp_path):
    said = tmp_path / "said"
    before = children()
    pid = orphan.spawn_orphan(
        "/bin/sh", ["sh", "-c", f'echo "$PPID $WORD $1" > {said}.new; mv {said}.new {said}', "sh", "a b"], {"WORD": "w"}
    )
    eventually(said.exists, what="it ran")
    parent, *words = said.read_text().split(" ", 2)
    assert int(parent) != os.getpid() != pid
    assert words == ["w", "a b\n"]
    assert children() == before


def test_only_what_is_inheritable_is_inherited(tmp_path):
    said = tmp_path / "said"
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    inheritable = {int(name) for name in os.listdir("/proc/self/fd") if is_inheritable(int(name))}
    try:
        orphan.spawn_orphan("/bin/sh", ["sh", "-c", f"ls /proc/self/fd > {said}.new; mv {said}.new {said}"], {"PATH": os.environ["PATH"]})
        eventually(said.exists, what="it ran")
    finally:
        os.close(reading)
        os.close(writing)
    descriptors = set(map(int, said.read_text().split()))
    assert writing in descriptors and reading not in descriptors
    assert len(descriptors - {0, 1, 2} - inheritable) <= 2  # that of the directory, and that of the shell


def test_what_cannot_be_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        orphan.spawn_orphan(str(tmp_path / "nothing"), ["nothing"], {})
    assert caught.value.filename == str(tmp_path / "nothing")


@pytest.mark.parametrize("helper, error", [("import time; time.sleep(60)", TimeoutError), ("", ChildProcessError)])
def test_a_helper_that_hangs_or_dies(monkeypatch, helper, error):
    monkeypatch.setattr(orphan, "HELPER", helper)
    monkeypatch.setattr(orphan, "HELPER_TIMEOUT", 10 if not helper else 0.1)
    before = children()
    with pytest.raises(error):
        orphan.spawn_orphan(sys.executable, [sys.executable, "-c", ""], {})
    assert children() == before
