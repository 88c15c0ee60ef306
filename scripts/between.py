"""Generated lines in a file that is otherwise written by hand."""

import re
import sys


def put_between(path, start, end, lines):
    """Replace the text in `path` between the lines `start` and `end` by `lines`. Exits unless each of them is there exactly once."""
    old = path.read_text(encoding="utf-8")
    between = re.compile(f"(?<={re.escape(start)}\n).*(?={re.escape(end)})", re.DOTALL)
    new, count = between.subn(lambda _: "".join(f"{line}\n" for line in lines), old)
    if count != 1:
        sys.exit(f"{path}: expected {start} and {end}, once and on lines of their own")
    path.write_text(new, encoding="utf-8")
