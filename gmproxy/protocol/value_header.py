"""The header of a value in the reply to get, gets, gat or gats. Only this module decides which headers are valid and where a value ends.

    VALUE <key> <flags> <length>[ <cas>] CRLF  <data> CRLF

Flags and length have 32 bits, so at most 10 digits; a cas number has 64 bits, so at most 20. memcached never sends more digits, not even leading
zeros: a header with more is invalid.
"""

VALUE = b"VALUE "

MAX_NUMBER_DIGITS = 10
MAX_CAS_DIGITS = 20

#: The bits that are kept of a cas number of 20 digits, which can be above 64 bits.
UINT64 = 2**64 - 1


class ValueHeader:
    """The header that `parse_after_key` or `parse_value` parsed last. It is undefined if they returned False.

    flags, length, cas  the numbers; `length` is that of the data, in bytes; `cas` is 0 if there is none
    has_cas             True if there is a cas number
    key_start, key_end  offsets of the key and of the blank behind it; set by `parse_value` only
    data_start          offset of the data
    end                 offset after the CRLF behind the data, where the next value, or END, begins
    """

    __slots__ = ("flags", "length", "cas", "has_cas", "key_start", "key_end", "data_start", "end", "_number")

    # Bytes are written as numbers, 32 for a blank, 48 to 57 for digits, 13 and 10 for CRLF: these are constants in the compiled build, too. There
    # `text` is a pointer into the receive buffer, so nothing is copied.

    def parse_after_key(self, text: bytes, key_end: int, stop: int) -> bool:
        """Parse the rest of the header line, ` flags length[ cas]` and CRLF, from offset `key_end` on. Returns False if it is invalid or does not
        end before offset `stop`. The data is not looked at, and need not have arrived."""
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
        """Parse a blank at offset `at` and 1 to `max_digits` digits, of which `_number` is the number. Returns the offset behind them, or -1."""
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
        """Parse the header of the value that begins, with `VALUE `, at offset `start`. Returns False if there is none, or `reply` ends before its
        data does."""
        if not reply.startswith(VALUE, start):
            return False
        self.key_start = start + 6
        self.key_end = reply.find(b" ", self.key_start)
        return self.key_end > self.key_start and self.parse_after_key(reply, self.key_end, len(reply)) and self.end <= len(reply)
