"""Confirmation of commands that delete something."""

import sys

from gmproxy.console.service_client import ServiceError
from gmproxy.errors import ConfigError

ANSWERS = ("y", "yes")


def confirm(question: str, is_confirmed: bool) -> None:
    """Return if `is_confirmed` (--yes), or if the answer to `question` at the terminal is yes. Raises ServiceError for another answer, ConfigError
    if there is no terminal. Blocks until the answer."""
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"not confirmed: {question} To confirm without a terminal, give --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ANSWERS:
        raise ServiceError("not confirmed: nothing was done")
