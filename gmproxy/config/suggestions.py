"""Suggestions for mistyped names."""

import difflib
from collections.abc import Iterable

#: The beginning of argparse's error for unknown arguments.
UNRECOGNIZED = "unrecognized arguments: "


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ ": did you mean NAME?" with the name in `known` that is most similar to `word`, in any case of letters; "" if none is."""
    names = {name.lower(): name for name in known}
    similar = difflib.get_close_matches(word.lower(), names, 1)
    return f": did you mean {names[similar[0]]}?" if similar else ""


def explained(message: str, options: Iterable[str]) -> str:
    """The error `message` of argparse, but for unknown arguments one about the first of them, with a suggestion from `options`."""
    if not message.startswith(UNRECOGNIZED):
        return message
    word = message.removeprefix(UNRECOGNIZED).partition(" ")[0]
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    return f"there is no option {word}{did_you_mean(word, [option for option in options if option.startswith('--')])}"
