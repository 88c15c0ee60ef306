"""When a primary may be filled from its backup, and when a miss may be looked up there at all."""

from time import monotonic
from typing import Any

from gmproxy.backend.backend import Backend

#: Seconds by which servers may execute a delayed flush_all earlier or later than each other: each counts whole seconds of its own clock.
FLUSH_MARGIN = 2.0


class FillRules:
    """For the fills of one pool, whatever its routes are. Methods: loop callback or greenlet; none blocks.

    While a delayed flush_all may be pending on a server, nothing is looked up on the backups to fill a primary or to answer a miss: what one server
    has flushed, another may still return, and a server that was restarted executes no flush_all that was sent to it before, so it would keep what it
    is filled with. That holds for all workers.

    With several proxies (the setting) a fill is verified (fill_sink.py), which needs the meta commands of memcached 1.6 on both servers. Whether a
    server has them is known for a connection: on the next one it may be another program.
    """

    def __init__(self, options: Any) -> None:
        """`options` of the pool."""
        self._options = options
        # (label, set_index) of a server: the connection on which it has replied to a meta command, or has replied to one with ERROR
        self._has_meta: dict[tuple[str, int], Any] = {}
        self._lacks_meta: dict[tuple[str, int], Any] = {}
        self._logged: set[str] = set()

    @staticmethod
    def flush_sent(delay: float, primary: Backend) -> None:
        """A flush_all is sent to `primary` and to the other servers, which execute it in `delay` seconds."""
        primary.notes.stop_fills(monotonic() + delay + FLUSH_MARGIN)

    @staticmethod
    def are_suspended(primary: Backend) -> bool:
        """True while nothing may be looked up, because a delayed flush_all may be pending."""
        return primary.notes.fills_are_stopped(monotonic())

    def must_verify(self) -> bool:
        """True if other proxies may write what is filled."""
        several: bool = self._options.proxies == "several"
        return several

    def must_probe(self, primary: Backend) -> bool:
        """True if it is unknown whether `primary` has meta commands, and a fill needs them."""
        return self.must_verify() and self._options.backend_protocol == "text" and not (self._has(primary) or self._lacks(primary))

    def note_reply(self, server: Backend, reply: bytes) -> None:
        """`server` has sent `reply` to a meta command."""
        if reply.startswith(b"ERROR"):
            self._lacks_meta[server.label, server.set_index] = server.connections[0]
            self._log(server, "several proxies: fills need memcached 1.6 or newer")
        elif not reply.startswith((b"CLIENT_ERROR", b"SERVER_ERROR")):  # these prove nothing
            self._has_meta[server.label, server.set_index] = server.connections[0]

    def exclude(self, primary: Backend, sources: list[Backend]) -> bool:
        """True if `primary` cannot be filled from `sources` now, whatever is found there."""
        if self.are_suspended(primary):
            return True
        if not self.must_verify():
            return False
        options = self._options
        if options.backend_protocol != "text":
            self._log(primary, "several proxies: fills need the text protocol of the servers")
            return True
        if options.backup_writes == "off":
            self._log(primary, "several proxies: fills need copies on the backups")
            return True
        if any(map(self._lacks, (primary, *sources))):
            return True
        # Until the other proxies have restored a source, too, they may have keys to delete there.
        delay: float = options.server_retry_timeout + options.timeout
        now = monotonic()
        return any(now - source.health.restored_at < delay for source in sources)

    def may_fill(self, primary: Backend, sources: list[Backend]) -> bool:
        """True if `primary` may be filled with what is looked up on `sources` now."""
        return not self.exclude(primary, sources) and not self.must_probe(primary)

    def _has(self, server: Backend) -> bool:
        return server.connections[0] is not None and self._has_meta.get((server.label, server.set_index)) is server.connections[0]

    def _lacks(self, server: Backend) -> bool:
        return server.connections[0] is not None and self._lacks_meta.get((server.label, server.set_index)) is server.connections[0]

    def _log(self, server: Backend, detail: str) -> None:
        """Once for each server."""
        if server.label not in self._logged:
            self._logged.add(server.label)
            server.log.warning("backend not filled server=%s detail=%r", server.label, detail)
