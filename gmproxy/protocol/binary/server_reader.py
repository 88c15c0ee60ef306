"""One link to a server of the binary protocol: requests in, packets out; packets in, replies out.

What is asked and how an answer reads in text is in in_binary.py. Here every packet gets a number, which the server sends back in its
answer: one that is not expected means that the stream is not in step, and raises BackendError("protocol"): the link must be closed.
"""

from collections import deque

from gmproxy.errors import PROTOCOL, BackendError
from gmproxy.protocol import limits
from gmproxy.protocol.binary.codec import Header
from gmproxy.protocol.binary.packets import HEADER_SIZE, NUMBER, OUT_OF_MEMORY, RESPONSE
from gmproxy.protocol.binary.translate import NUMBERS, ask
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import ReplyParser
from gmproxy.protocol.text.responses import is_error_line

#: What a server would say that had no memory for an answer: the text protocol's line for it is made of this.
NO_MEMORY = b"out of memory writing get response"


class BinaryReplyParser(ReplyParser):
    """What a server is asked, and its replies (a message.Reader). Both are to be called in the order of the requests.

    out_of_step   always False: a packet says how long it is, so no refusal can be mistaken for anything else
    """

    __slots__ = ("stream", "values_found", "out_of_step", "_asked", "_number", "_begun", "_header", "_skip", "_skipped")

    def __init__(self):
        self.stream = RecvBuffer()
        self.values_found = 0
        self.out_of_step = False
        self._asked = deque()  # a PendingReply for each request that has no reply
        self._number = 0       # for the next packet
        self._begun = False    # part of the oldest reply was taken
        self._header = Header()
        self._skip = 0         # bytes of a body too large that are still to be thrown away
        self._skipped = 0      # the place of its packet

    def encode(self, request):
        """The packets that ask for `request`."""
        question, said = ask(request, self._number)
        self._asked.append(question)
        self._number = (self._number + question.count) % NUMBERS
        return said

    def is_at_border(self):
        """True if not a byte has arrived after the last complete reply."""
        return self.stream.size() == 0 and not self._begun

    def read(self, request):
        stream = self.stream
        while stream.ready():
            question = self._asked[0]
            start = stream.pos
            if self._skip:
                self._skip -= stream.drop(self._skip)
                if self._skip:
                    return None
                reply = self._take(question, self._skipped, OUT_OF_MEMORY, 0, 0, NO_MEMORY)
                if reply is not None:
                    return reply
                continue
            if stream.byte(start) != RESPONSE:
                raise self._no_packet()
            body = start + HEADER_SIZE
            if body > stream.end:
                stream.need = HEADER_SIZE
                return None
            header = self._header
            header.read(stream, start)
            place = (header.opaque - question.first) % NUMBERS
            if place >= question.count:
                raise BackendError(PROTOCOL, f"an answer to packet {header.opaque}, which is not expected")
            value = body + header.extras_length + header.key_length
            after = body + header.body_length
            if value > after:
                raise BackendError(PROTOCOL, f"a bad header {stream.cut(start, body)!r}")
            if after > stream.end and header.body_length > limits.MAX_REPLY:
                stream.need = 0
                self._begun = True
                self._skipped = place
                self._skip = HEADER_SIZE + header.body_length
                self._skip -= stream.drop(self._skip)
                return None
            if after > stream.end:
                stream.need = HEADER_SIZE + header.body_length
                return None
            stream.pos = after
            flags = NUMBER.unpack(stream.cut(body, body + NUMBER.size))[0] if header.extras_length >= NUMBER.size else 0
            reply = self._take(question, place, header.status, header.cas, flags, stream.cut(value, after))
            if reply is not None:
                return reply
        return None

    def _take(self, question, place, status, cas, flags, value):
        """As PendingReply.take; a whole reply ends the question."""
        reply = question.take(place, status, cas, flags, value)
        self._begun = reply is None
        if reply is not None:
            self._asked.popleft()
            self.values_found = question.values_found
        return reply

    def _no_packet(self):
        """A memcached that has no room for another connection says so in text."""
        said = self.stream.cut(self.stream.pos, self.stream.pos + 60)
        is_error_line(said)
        return BackendError(PROTOCOL, f"no packet of the binary protocol: {said!r}")
