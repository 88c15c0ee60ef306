"""Parses the arguments of the commands of gmproxyctl."""

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeVar

from gmproxy.config.suggestions import explained
from gmproxy.errors import ConfigError

Number = TypeVar("Number", int, float)


class CommandParser(argparse.ArgumentParser):
    """The options that all commands have. `has_pool`: the command also has --pool. Raises ConfigError for wrong arguments."""

    def __init__(self, command: str, description: str, has_pool: bool = False) -> None:
        super().__init__(f"gmproxyctl {command}", description=description, add_help=False, allow_abbrev=False)
        if has_pool:
            self.add_argument("--pool", metavar="NAME", help="only this pool")
        self.add_argument("--json", action="store_true", help="print the response as JSON")
        self.add_argument("--control", metavar="PATH", help="the control socket of the service")
        self.add_argument("-c", "--config", metavar="FILE", help="a configuration file with the setting control")
        self.add_argument("-h", "--help", action="store_true", help="print this help and exit")

    def error(self, message: str) -> NoReturn:
        message = explained(message, self._option_string_actions)
        raise ConfigError(f"{message}{'' if message.endswith('?') else ':'} see {self.prog} --help")


def _number(kind: Callable[[str], Number], what: str) -> Callable[[Number, Number], Callable[[str], Number]]:
    """A function of (least, most) that returns a parser of such numbers, for `type` of add_argument."""

    def between(least: Number, most: Number) -> Callable[[str], Number]:
        def parse(text: str) -> Number:
            refusal = argparse.ArgumentTypeError(f"{text!r} is not {what} from {least} to {most}")
            try:
                value = kind(text)
            except ValueError:
                raise refusal from None
            if not least <= value <= most:
                raise refusal
            return value

        return parse

    return between


seconds = _number(float, "a number of seconds")
whole = _number(int, "a whole number")
