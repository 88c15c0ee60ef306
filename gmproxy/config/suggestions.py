"""What a mistyped name may have meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ ": did you mean NAME?", with the name of `known` that is most like `word`, whatever the case; "" if none is."""
    names = {name.lower(): name for name in known}
    alike = difflib.get_close_matches(word.lower(), names, 1)
    return f": did you mean {names[alike[0]]}?" if alike else ""
