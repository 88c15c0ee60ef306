"""The header of a value in the reply to get, gets, gat or gats. This alone decides what such a header may look like and where its value ends.

    VALUE <key> <flags> <length>[ <cas>] CRLF  <data> CRLF

Flags and length have 32 bits, so at most 10 digits; a cas number has 64 bits, so at most 20. memcached never sends more digits, leading zeros
included, and none is trusted.
"""

VALUE = b"VALUE "

MAX_NUMBER_DIGITS = 10
MAX_CAS_DIGITS = 20

#: A cas number of 20 digits may be above 64 bits, of which these are kept.
UINT64 = 2**64 - 1


class ValueHeader:
    """What `parse_after_key` or `parse_value` has found; any number of headers after one another.

    flags, length, cas  the numbers; `cas` is 0 if there is none
    has_cas             True if there is a cas number
    key_start, key_end  offsets of the key, after `parse_value`
    data_start          offset of the data
    end                 offset after the CRLF behind the data: there the next value, or END, begins
    """

    __slots__ = ("flags", "length", "cas", "has_cas", "key_start", "key_end", "data_start", "end", "_number")

    # The bytes are written as numbers, 32 for a blank and 48 to 57 for digits, since they are constants then in the compiled build, too. There
    # `text` is a pointer, so that a header is parsed where it was received.

    def parse_after_key(self, text: bytes, key_end: int, stop: int) -> bool:
        """Parse what follows the key, ` flags length` or ` flags length cas` and CRLF, from offset `key_end` on. False if it is not that, or
        does not end before `stop`; the data may do so or not."""
        at = self._parse_number(text, key_end, stop, MAX_NUMBER_DIGITS)
        if at < 0:
            return False
        self.flags = self._number
        at = self._parse_number(text, at, stop, MAX_NUMBER_DIGITS)
        if at < 0:
            return False
        self.length = self._number
        self.cas = 0
        self.has_cas = at < stop and text[at] == 32
        if self.has_cas:
            at = self._parse_number(text, at, stop, MAX_CAS_DIGITS)
            if at < 0:
                return False
            self.cas = self._number & UINT64
        if at + 2 > stop or text[at] != 13 or text[at + 1] != 10:
            return False
        self.data_start = at + 2
        self.end = self.data_start + self.length + 2
        return True

    def _parse_number(self, text: bytes, at: int, stop: int, max_digits: int) -> int:
        """The offset after the blank at offset `at` and the 1 to `max_digits` digits behind it, or -1. Their number is in `_number`."""
        if at >= stop or text[at] != 32:
            return -1
        at += 1
        first = at
        if stop > first + max_digits:
            stop = first + max_digits
        number = 0
        while at < stop and 48 <= text[at] <= 57:
            number = number * 10 + (text[at] - 48)
            at += 1
        self._number = number
        return at if at > first else -1

    def parse_value(self, reply: bytes, start: int) -> bool:
        """Parse the value that begins at offset `start` of `reply`, with its VALUE. False if none begins there, or `reply` ends before it."""
        if not reply.startswith(VALUE, start):
            return False
        self.key_start = start + 6
        self.key_end = reply.find(b" ", self.key_start)
        return self.key_end > self.key_start and self.parse_after_key(reply, self.key_end, len(reply)) and self.end <= len(reply)
