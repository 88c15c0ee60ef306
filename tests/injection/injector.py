"""The test's side of _injection.py: arms a point, and reads which points were passed."""

import mmap
from pathlib import Path

from injection._injection import ARMED, HEADER, IDLE, RAISED, REACHED, VARIABLE


class Injector:
    """`variables`: environment variables for the processes of the instrumented copy."""

    def __init__(self, path: Path, count: int) -> None:
        """`count`: the number of points."""
        self._count = count
        path.write_bytes(bytes(REACHED + count))
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.variables = {VARIABLE: str(path)}

    def arm(self, number: int, passed: int = 0) -> None:
        """The point raises once, in the first process that reaches it after it was passed `passed` times."""
        HEADER.pack_into(self._memory, 0, ARMED, passed, number)

    def disarm(self) -> None:
        HEADER.pack_into(self._memory, 0, IDLE, 0, 0)

    def has_raised(self) -> bool:
        return self._memory[0] == RAISED

    def reached(self) -> set[int]:
        """The points passed since `forget`."""
        return {number for number in range(self._count) if self._memory[REACHED + number]}

    def forget(self) -> None:
        self._memory[REACHED:] = bytes(self._count)
