"""A connection to a server of the binary protocol: requests in, packets out; packets in, replies out.

server_requests.py makes the packets, pending_replies.py the replies in the text protocol. Here each packet has a number of its own, the opaque, which
the server returns. An unexpected one means that requests and replies are out of step, and raises BackendError("protocol"): the connection must be
closed.
"""

from collections import deque

from gmproxy.errors import PROTOCOL, BackendError
from gmproxy.protocol import limits
from gmproxy.protocol.binary.codec import PacketHeader
from gmproxy.protocol.binary.packets import HEADER_SIZE, NUMBER, OUT_OF_MEMORY, RESPONSE
from gmproxy.protocol.binary.pending_replies import PendingReply
from gmproxy.protocol.binary.server_requests import OPAQUES, encode_request
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import ReplyParser, Request
from gmproxy.protocol.text.responses import is_error_line

#: The text of a reply that is too large: with it, pending_replies.py makes the error line of a server that lacks memory for the reply.
NO_MEMORY = b"out of memory writing get response"


class BinaryReplyParser(ReplyParser):
    """A ReplyParser of the binary protocol, which also encodes the requests: `encode` and `parse_reply` must be called in the same order of requests.

    out_of_step   always False: a packet has its length in the header, so a server always finds its end
    """

    __slots__ = (
        "stream",
        "values_found",
        "out_of_step",
        "_pending",
        "_next_opaque",
        "_reply_has_begun",
        "_header",
        "_skip",
        "_skipped_index",
    )

    def __init__(self) -> None:
        self.stream = RecvBuffer()
        self.values_found = 0
        self.out_of_step = False
        self._pending: deque[PendingReply] = deque()  # one for each request without a reply
        self._next_opaque = 0  # of the next packet
        self._reply_has_begun = False  # a part of the reply to the oldest request has been parsed
        self._header = PacketHeader()
        self._skip = 0  # bytes of a packet that is too large that are still to be discarded
        self._skipped_index = 0  # its index (PendingReply.on_packet)

    def encode(self, request: Request) -> bytes:
        """The packets for `request`."""
        pending, encoded = encode_request(request, self._next_opaque)
        self._pending.append(pending)
        self._next_opaque = (self._next_opaque + pending.count) % OPAQUES
        return encoded

    def is_between_messages(self) -> bool:
        return self.stream.size() == 0 and not self._reply_has_begun

    def parse_reply(self, request: Request) -> bytes | None:
        stream = self.stream
        while stream.has_news():
            pending = self._pending[0]
            start = stream.pos
            if self._skip:  # the rest of a packet that is too large
                self._skip -= stream.discard(self._skip)
                if self._skip:
                    return None
                reply = self._on_packet(pending, self._skipped_index, OUT_OF_MEMORY, 0, 0, NO_MEMORY)
                if reply is not None:
                    return reply
                continue
            if stream.byte_at(start) != RESPONSE:
                raise self._not_a_packet()
            body_start = start + HEADER_SIZE
            if body_start > stream.end:
                stream.need = HEADER_SIZE
                return None
            header = self._header
            header.parse(stream, start)
            index = (header.opaque - pending.first) % OPAQUES
            if index >= pending.count:
                raise BackendError(PROTOCOL, f"reply with an unexpected opaque: {header.opaque}")
            value_start = body_start + header.extras_length + header.key_length
            after = body_start + header.body_length
            if value_start > after:
                raise BackendError(PROTOCOL, f"bad packet header: {stream.cut(start, body_start)!r}")
            if after > stream.end and header.body_length > limits.MAX_REPLY:
                stream.need = 0
                self._reply_has_begun = True
                self._skipped_index = index
                self._skip = HEADER_SIZE + header.body_length
                self._skip -= stream.discard(self._skip)
                return None
            if after > stream.end:
                stream.need = HEADER_SIZE + header.body_length
                return None
            stream.pos = after
            flags = NUMBER.unpack(stream.cut(body_start, body_start + NUMBER.size))[0] if header.extras_length >= NUMBER.size else 0
            reply = self._on_packet(pending, index, header.status, header.cas, flags, stream.cut(value_start, after))
            if reply is not None:
                return reply
        return None

    def _on_packet(self, pending: PendingReply, index: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        """As PendingReply.on_packet, of the oldest request; after the complete reply, the next request is the oldest."""
        reply = pending.on_packet(index, status, cas, flags, value)
        self._reply_has_begun = reply is None
        if reply is not None:
            self._pending.popleft()
            self.values_found = pending.values_found
        return reply

    def _not_a_packet(self) -> BackendError:
        """The exception for bytes that are not a packet. Raises BackendError("overload") if they are the line of memcached about too many
        connections, which is text in any protocol."""
        text = self.stream.cut(self.stream.pos, self.stream.pos + 60)
        is_error_line(text)
        return BackendError(PROTOCOL, f"not a packet of the binary protocol: {text!r}")
