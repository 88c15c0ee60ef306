"""What stands between a request and its sink while a route has something to do with it: one object for each, with all its state."""

from gmproxy.protocol.request import ReplySink, Request


class Step(ReplySink):
    """Passes everything on. A route puts one in the place of the request's sink, and derives from it what it has to do itself.

    It is made by `Kind.__new__(Kind)`, which is a step in C in the compiled build, and then told to `step_in`.

    sink   the request's own; None if it has none, or has it back
    """

    __slots__ = ("sink",)

    def step_in(self, request: Request) -> None:
        """Take the place of the sink of `request`."""
        self.sink = request.sink
        request.sink = self

    def step_out(self, request: Request) -> None:
        """Restore the sink of `request`: this step takes no further part in it."""
        request.sink = self.sink
        self.sink = None

    def on_reply(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        return request.complete()

    def on_failure(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        return request.fail(request.error, request.failed_server)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        """May also be called after `step_out`, if what followed raised: then the request has its own sink, or was completed."""
        if self.sink is not None:
            self.step_out(request)
        return request.abandon()
