"""Terminals for tests. A build environment may have none."""

import os
import pty

import pytest


def open_terminal() -> tuple[int, int]:
    """Open a terminal, as pty.openpty does, and return both ends. Skips the test if that fails."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be had: {os.strerror(error.errno) if error.errno else error}")
