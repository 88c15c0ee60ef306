"""The refill of a primary for a meta command: what refill.py does for the classic ones, whose answers look different.

The backup is asked the same as the primary was, so that the client gets the answer it asked for. If there is one, the backup is
asked again for what an `ms` needs, and the primary gets that, unless it has a value by then.
"""

from gmproxy.accel import pick
from gmproxy.refill import UNMATCHED_CAS, read_meta

_message = pick("message")
new_request = _message.Request
Asker = _message.Asker
META_GET = _message.META_GET
META_SET_IF = _message.META_SET_IF
BACKUP = _message.BACKUP


class MetaRefill(Asker):
    """Asks the server `backup` for what `request`, answered by `primary`, did not find there."""

    def __init__(self, request, primary, backup):
        self.request = request
        self.primary = primary
        self.backup = backup

    def ask(self):
        """Returns the session that waits for no more replies by this, if any."""
        return self.backup.submit(self._question(self.request.verb, self.request.line, self))

    def answered(self, question):
        request = self.request
        if question.reply.startswith((b"HD", b"VA")):
            request.reply = without_cas(question.reply)
            word, flag = self._item()
            self.backup.submit(self._question(META_GET, b"mg %b%b f t v\r\n" % (word, flag), _Filler(self)))
        return request.owner.answered(request)

    def fill(self, flags, life, data):
        """Give the primary the value `data`, with its CRLF."""
        word, flag = self._item()
        line = b"ms %b %d%b ME F%d T%d\r\n%b" % (word, len(data) - 2, flag, flags, life, data)
        self.primary.refills += 1
        self.primary.submit(self._question(META_SET_IF, line, None))

    def _item(self):
        """The key as the client wrote it, and the flag that says whether it is in base64."""
        words = self.request.line[:-2].split(b" ")
        return words[1], b" b" if b"b" in words[2:] else b""

    def _question(self, verb, line, owner):
        question = new_request(verb, self.request.key, line)
        question.owner = owner
        question.lane = self.request.lane
        question.stage = BACKUP  # nobody else is asked if it fails
        return question


class _Filler(Asker):
    """Waits for what `refill` needs."""

    def __init__(self, refill):
        self.refill = refill

    def answered(self, question):
        found = read_meta(question.reply)
        if found is not None:
            self.refill.fill(*found)


def without_cas(reply):
    """The backup's answer with a number that no item of the primary has, as refill.py does."""
    header, end, block = reply.partition(b"\r\n")
    words = [b"c%d" % UNMATCHED_CAS if word[:1] == b"c" else word for word in header.split(b" ")]
    return b" ".join(words) + end + block
