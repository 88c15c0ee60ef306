"""One link to a server of the binary protocol: requests in, packets out; packets in, replies out.

server_requests.py makes the packets, pending_replies.py the replies in text. Here every packet gets a number, its opaque, which the server sends
back: one that is not expected means that the stream is not in step, and raises BackendError("protocol"): the link must be closed.
"""

from collections import deque

from gmproxy.errors import PROTOCOL, BackendError
from gmproxy.protocol import limits
from gmproxy.protocol.binary.codec import PacketHeader
from gmproxy.protocol.binary.packets import HEADER_SIZE, NUMBER, OUT_OF_MEMORY, RESPONSE
from gmproxy.protocol.binary.pending_replies import PendingReply
from gmproxy.protocol.binary.server_requests import NUMBERS, encode_request
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import ReplyParser, Request
from gmproxy.protocol.text.responses import is_error_line

#: What a server would say that had no memory for an answer: the text protocol's line for it is made of this.
NO_MEMORY = b"out of memory writing get response"


class BinaryReplyParser(ReplyParser):
    """What a server is asked, and its replies (a ReplyParser). Both are to be called in the order of the requests.

    out_of_step   always False: a packet says how long it is, so no refusal can be mistaken for anything else
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
        "_skipped_place",
    )

    def __init__(self) -> None:
        self.stream = RecvBuffer()
        self.values_found = 0
        self.out_of_step = False
        self._pending: deque[PendingReply] = deque()  # for each request that has no reply
        self._next_opaque = 0  # of the next packet
        self._reply_has_begun = False  # part of the oldest reply has arrived
        self._header = PacketHeader()
        self._skip = 0  # bytes of a body too large that are still to be thrown away
        self._skipped_place = 0  # the place of its packet

    def encode(self, request: Request) -> bytes:
        """The packets that ask for `request`."""
        pending, encoded = encode_request(request, self._next_opaque)
        self._pending.append(pending)
        self._next_opaque = (self._next_opaque + pending.count) % NUMBERS
        return encoded

    def is_between_messages(self) -> bool:
        """True if not a byte has arrived after the last complete reply."""
        return self.stream.size() == 0 and not self._reply_has_begun

    def parse_reply(self, request: Request) -> bytes | None:
        stream = self.stream
        while stream.has_news():
            pending = self._pending[0]
            start = stream.pos
            if self._skip:
                self._skip -= stream.discard(self._skip)
                if self._skip:
                    return None
                reply = self._on_packet(pending, self._skipped_place, OUT_OF_MEMORY, 0, 0, NO_MEMORY)
                if reply is not None:
                    return reply
                continue
            if stream.byte_at(start) != RESPONSE:
                raise self._not_a_packet()
            body = start + HEADER_SIZE
            if body > stream.end:
                stream.need = HEADER_SIZE
                return None
            header = self._header
            header.parse(stream, start)
            place = (header.opaque - pending.first) % NUMBERS
            if place >= pending.count:
                raise BackendError(PROTOCOL, f"reply with an unexpected opaque: {header.opaque}")
            value = body + header.extras_length + header.key_length
            after = body + header.body_length
            if value > after:
                raise BackendError(PROTOCOL, f"bad packet header: {stream.cut(start, body)!r}")
            if after > stream.end and header.body_length > limits.MAX_REPLY:
                stream.need = 0
                self._reply_has_begun = True
                self._skipped_place = place
                self._skip = HEADER_SIZE + header.body_length
                self._skip -= stream.discard(self._skip)
                return None
            if after > stream.end:
                stream.need = HEADER_SIZE + header.body_length
                return None
            stream.pos = after
            flags = NUMBER.unpack(stream.cut(body, body + NUMBER.size))[0] if header.extras_length >= NUMBER.size else 0
            reply = self._on_packet(pending, place, header.status, header.cas, flags, stream.cut(value, after))
            if reply is not None:
                return reply
        return None

    def _on_packet(self, pending: PendingReply, place: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        """As PendingReply.on_packet; after the whole reply, the next one is the oldest."""
        reply = pending.on_packet(place, status, cas, flags, value)
        self._reply_has_begun = reply is None
        if reply is not None:
            self._pending.popleft()
            self.values_found = pending.values_found
        return reply

    def _not_a_packet(self) -> BackendError:
        """A memcached that has no room for another connection says so in text."""
        text = self.stream.cut(self.stream.pos, self.stream.pos + 60)
        is_error_line(text)
        return BackendError(PROTOCOL, f"not a packet of the binary protocol: {text!r}")
