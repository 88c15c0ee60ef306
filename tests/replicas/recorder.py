"""A scripted server that records its requests."""

from support.scripted import Step

#: What memcached replies to these.
USUAL = {b"version": b"VERSION 1.6.18\r\n", b"flush_all": b"OK\r\n"}


class Recorder:
    """The `answer` of a ScriptedBackend.

    requests   what was received, complete requests
    replies    {command: what is replied to it: bytes, steps, or a function of the request that returns these}
    """

    def __init__(self, **replies: object) -> None:
        self.requests: list[bytes] = []
        self.replies = USUAL | {name.encode(): reply for name, reply in replies.items()}

    def __call__(self, request: bytes) -> bytes | Step | list:
        self.requests.append(request)
        reply = self.replies[request.split()[0]]
        return reply(request) if callable(reply) else reply

    def count(self, request: bytes) -> int:
        """How often exactly this was received."""
        return self.requests.count(request)

    def has_seen(self, command: bytes) -> bool:
        """True if a request with this command was received."""
        return any(request.split()[0] == command for request in self.requests)
