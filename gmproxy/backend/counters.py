"""What is counted about one server. The names that operators see are in gmproxy.monitoring.report and gmproxy.client.stats."""

import time
from array import array

from gmproxy.errors import REASONS
from gmproxy.protocol.commands import COMMAND_NAMES, Command


class BackendCounters:
    """Since the start, or since `reset`. Written from loop callbacks and greenlets; nothing here waits.

    keys_asked       keys of reads that were replied to; `values_found`: values in these replies
    failures         requests that got no reply
    errors           reason word (gmproxy.errors.REASONS) -> requests that failed for it
    not_connected    of the errors for overload: those for want of our own descriptors, memory or local ports when connecting
    connects         connections that were made
    fills            values that backups had and this server got
    keys_deleted     keys that it had missed a change of, and that were deleted there; `flushes`: times that all of it was flushed for that
    last_error       the latest failure, "reason detail", "" if there was none; `last_error_at`: when (unix time, 0.0 if never)
    """

    __slots__ = ("keys_asked", "values_found", "failures", "errors", "not_connected", "connects", "fills", "keys_deleted", "flushes",
                 "last_error", "last_error_at", "_replies")  # fmt: skip

    def __init__(self) -> None:
        self.last_error = ""
        self.last_error_at = 0.0
        self._replies = array("q", [0] * len(COMMAND_NAMES))  # by the number of the command
        self.reset()

    def reset(self) -> None:
        """Begin anew; only the latest failure is kept."""
        for number in range(len(self._replies)):
            self._replies[number] = 0
        self.errors = dict.fromkeys(REASONS, 0)
        self.keys_asked = self.values_found = self.failures = self.not_connected = self.connects = 0
        self.fills = self.keys_deleted = self.flushes = 0

    def count_reply(self, command: Command) -> None:
        """There is a reply to a request of `command` (a Command)."""
        self._replies[command.number] += 1

    def count_failures(self, requests: int, reason: str, detail: str) -> None:
        """`requests` got no reply, because of `reason` and `detail`."""
        self.failures += requests
        self.last_error = f"{reason} {detail}".rstrip()
        self.last_error_at = time.time()

    @property
    def replies(self) -> int:
        """Requests that were replied to."""
        return sum(self._replies)

    def replies_by_command(self) -> dict[str, int]:
        """{name of a command: requests that were replied to}, without those of which there were none."""
        return {COMMAND_NAMES[number]: count for number, count in enumerate(self._replies) if count}
