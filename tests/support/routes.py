"""Routes without a network: servers that keep requests until the test replies, and a client that records what it receives."""

import functools
import logging
from types import SimpleNamespace

from gmproxy.backend.backend import Backend
from gmproxy.config import configuration
from gmproxy.protocol.request import ReplySink
from support.shared import column_of_test


@functools.cache
def _parsed(*arguments):
    (options,), _ = configuration.parse(list(arguments), {})
    return options


def options_of(*arguments):
    """The options of a pool with the command line `arguments`."""
    return SimpleNamespace(**vars(_parsed(*arguments)), lanes=1, fills_enabled=True)


class KeepingServer(Backend):
    """A Backend that records requests and sends nothing.

    sent   all requests so far, in order
    """

    def __init__(self, port, options=None, observer=None, **roles):
        address = f"127.0.0.1:{port}"
        options = options or options_of("-s", address)
        (server,) = options_of("-s", address).server
        super().__init__(server, options, observer, logging.getLogger("test"), column_of_test().notes, **roles)
        self.sent = []

    def send(self, request):
        self.sent.append(request)

    @property
    def lines(self):
        return [request.line for request in self.sent]

    def answer(self, request, reply, found=0):
        """The server sends `reply`, which contains `found` values, to `request`."""
        request.reply = reply
        return self.request_replied(request, found)

    def fail(self, request, reason="timeout"):
        """The request fails for `reason`."""
        return self.request_failed(request, reason, True, False)


class UnconnectedServer(Backend):
    """A Backend whose connections never open: requests wait in it."""

    def __init__(self, server, options, observer, log, notes=None, **roles):
        super().__init__(server, options, observer, log, notes or column_of_test().notes, **roles)

    def _connect(self, connection):
        pass


class Client(ReplySink):
    """The sink of a client's requests. `heard`: the outcomes of requests, in order: the reply, or (reason, server) for a failure."""

    def __init__(self):
        self.heard = []

    def on_reply(self, request):
        self.heard.append(request.reply)
        return self

    on_internal_error = on_reply

    def on_failure(self, request):
        self.heard.append((request.error, request.failed_server))
        return self

    def resume(self):
        """Does nothing: the test reads `heard`."""
