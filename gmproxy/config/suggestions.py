"""What a mistyped name may have meant."""

import difflib
from collections.abc import Iterable

#: How argparse says that it does not know arguments.
UNRECOGNIZED = "unrecognized arguments: "


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ ": did you mean NAME?", with the name of `known` that is most like `word`, whatever the case; "" if none is."""
    names = {name.lower(): name for name in known}
    alike = difflib.get_close_matches(word.lower(), names, 1)
    return f": did you mean {names[alike[0]]}?" if alike else ""


def explained(message: str, options: Iterable[str]) -> str:
    """`message` of argparse; if it does not know some words, which is the first, and what of the `options` it may have meant."""
    if not message.startswith(UNRECOGNIZED):
        return message
    word = message.removeprefix(UNRECOGNIZED).partition(" ")[0]
    if not word.startswith("-"):
        return f"{word!r} belongs to no option"
    return f"there is no option {word}{did_you_mean(word, [option for option in options if option.startswith('--')])}"
