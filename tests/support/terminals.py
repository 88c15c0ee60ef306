"""Terminals for tests: a build may run where there are none."""

import os
import pty

import pytest


def open_terminal() -> tuple[int, int]:
    """The two ends of a new terminal, as pty.openpty. Skips the test if there is none."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be had: {os.strerror(error.errno) if error.errno else error}")
