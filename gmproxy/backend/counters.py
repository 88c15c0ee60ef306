"""The counters of one server. The names that operators see are in gmproxy.monitoring.report and gmproxy.client.stats."""

import time
from array import array

from gmproxy.errors import REASONS
from gmproxy.protocol.commands import COMMAND_NAMES, COMMANDS, Command
from gmproxy.protocol.request import Request

#: The result of a write that depends on the item: it was made, there was no item, or the item had another cas number.
HIT, MISS, BADVAL = range(3)
OUTCOMES = 3

INCR = COMMANDS[b"incr"].number
DECR = COMMANDS[b"decr"].number

#: How the flag of an ma that decrements begins.
COUNTS_DOWN = (b" MD", b" Md", b" M-")

#: First letters of replies.
LETTER_C, LETTER_E, LETTER_F, LETTER_N, LETTER_O, LETTER_X = b"CEFNOX"


class BackendCounters:
    """Since the start, or since `reset`. Methods: loop callback or greenlet; none blocks.

    keys_asked       keys of reads that got a reply
    values_found     values in these replies
    keys_touched     those of keys_asked whose read also touches: gat, gats, mg with T
    touches_found    those of values_found whose read also touches
    failures         requests that got no reply
    errors           reason word (gmproxy.errors.REASONS) -> requests that failed for it
    not_connected    those of the errors for overload for which gmproxy had no file descriptor, memory or local port for a connection
    connects         connections that were opened
    fills            values that this server was filled with
    fills_undone     those that were deleted again because the backup no longer had the value
    keys_deleted     keys that were deleted there because they had pending invalidations
    flushes          times that the server was flushed because there were too many of these
    last_error       the latest failure, "reason detail"; "" if there was none
    last_error_at    its unix time; 0.0 if there was none
    """

    __slots__ = ("keys_asked", "values_found", "keys_touched", "touches_found", "failures", "errors", "not_connected", "connects", "fills",
                 "fills_undone", "keys_deleted", "flushes", "last_error", "last_error_at", "_replies", "_outcomes")  # fmt: skip

    def __init__(self) -> None:
        self.last_error = ""
        self.last_error_at = 0.0
        self._replies = array("q", [0] * len(COMMAND_NAMES))  # by the number of the command
        self._outcomes = array("q", [0] * len(COMMAND_NAMES) * OUTCOMES)  # the same, and by HIT, MISS and BADVAL
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0. The latest failure is kept."""
        for number in range(len(self._replies)):
            self._replies[number] = 0
        for number in range(len(self._outcomes)):
            self._outcomes[number] = 0
        self.errors = dict.fromkeys(REASONS, 0)
        self.keys_asked = self.values_found = self.keys_touched = self.touches_found = 0
        self.failures = self.not_connected = self.connects = 0
        self.fills = self.fills_undone = self.keys_deleted = self.flushes = 0

    def count_reply(self, command: Command) -> None:
        """A request of `command` got its reply."""
        self._replies[command.number] += 1

    def count_touches(self, command: Command, asked: int, found: int) -> None:
        """A read of `asked` keys that touches them got its reply, with `found` values. As in memcached, an mg that is a miss counts as a get."""
        self.keys_touched += found if command.is_meta else asked
        self.touches_found += found

    def count_write(self, request: Request) -> None:
        """`request`, which is not a read, got its reply."""
        reply = request.reply
        if len(reply) < 2:
            return
        first, second = reply[0], reply[1]
        outcome = HIT
        if first == LETTER_N:  # NOT_FOUND, NF; or NOT_STORED, NS
            if second != LETTER_F and (second != LETTER_O or len(reply) < 5 or reply[4] != LETTER_F):
                return
            outcome = MISS
        elif first == LETTER_E:  # EXISTS, EX; or ERROR
            if second != LETTER_X:
                return
            outcome = BADVAL
        elif first == LETTER_C or second == LETTER_E and reply.startswith(b"SERVER_ERROR"):  # CLIENT_ERROR
            return
        number = request.command.number
        if request.command.is_meta:
            number = self._number_of_meta(request, outcome)
        self._outcomes[number * OUTCOMES + outcome] += 1

    @staticmethod
    def _number_of_meta(request: Request, outcome: int) -> int:
        """The number of the classic command that does the same as the meta command."""
        command = request.command
        if command.name == b"ma":
            return DECR if any(flag in request.line for flag in COUNTS_DOWN) else INCR
        if command.name == b"ms":
            with_cas = outcome != HIT or (command.conditional and b" C" in request.line[: request.line.find(b"\r\n")])
            return COMMANDS[b"cas"].number if with_cas else command.number
        return COMMANDS[b"delete"].number if command.name == b"md" else command.number

    def outcomes(self, name: bytes) -> tuple[int, int, int]:
        """(hits, misses, wrong cas numbers) of the command `name` and of the meta commands that do the same."""
        at = COMMANDS[name].number * OUTCOMES
        return self._outcomes[at + HIT], self._outcomes[at + MISS], self._outcomes[at + BADVAL]

    def count_failures(self, requests: int, reason: str, detail: str) -> None:
        """`requests` got no reply, for `reason`, of gmproxy.errors.REASONS, and `detail`."""
        self.failures += requests
        self.last_error = f"{reason} {detail}".rstrip()
        self.last_error_at = time.time()

    @property
    def replies(self) -> int:
        """Requests that got a reply."""
        return sum(self._replies)

    def replies_by_command(self) -> dict[str, int]:
        """{name of the command: requests that got a reply}, without zeros."""
        return {COMMAND_NAMES[number]: count for number, count in enumerate(self._replies) if count}
