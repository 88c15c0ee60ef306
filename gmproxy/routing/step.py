"""What a route puts between a request and its sink while it has to act on the reply: one object for each request, with all its state."""

from gmproxy.protocol.request import ReplySink, Request


class Step(ReplySink):
    """Passes every result on to the sink of the request. Derived classes override what their route has to do.

    Made by `Kind.__new__(Kind)`, then `step_in`: in the compiled build this costs no Python call. Methods: loop callback or greenlet.

    sink   the sink of the request, which this step replaced; None before `step_in` and after `step_out`
    """

    __slots__ = ("sink",)

    def step_in(self, request: Request) -> None:
        """Replace the sink of `request`."""
        self.sink = request.sink
        request.sink = self

    def step_out(self, request: Request) -> None:
        """Restore the sink of `request`."""
        request.sink = self.sink
        self.sink = None

    def on_reply(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        return request.complete()

    def on_failure(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        return request.fail(request.error, request.failed_server)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        """May also be called after `step_out`, if the code after it raised. Then the request has its own sink again, or is completed."""
        if self.sink is not None:
            self.step_out(request)
        return request.abandon()
