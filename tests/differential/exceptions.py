"""Where the replies of gmproxy and memcached may differ: each case with its reason. No other difference is accepted.

The proxy replies to invalid requests as memcached 1.6.45 does, and accepts the numbers that 1.6.18 accepts: each version has its own
exceptions.
"""

import re

from wire.sample import comparable, is_old

EXCUSED = {
    "answered by the proxy for itself: who it is, what it counts, what it logs": rb"^ *(?:version|stats|verbosity)[ \r\n\0]",
    "the administration of one memcached is unknown here": rb"^ *(?:slabs|lru|lru_crawler|watch|cache_memlimit|extstore|refresh_certs|shutdown|misbehave|debugtime)[ \r\n\0]",
    "a delayed flush_all takes what is stored in the same second, or not, as the clocks of two servers happen to stand": rb"flush_all +[^\n]*[1-9]",
    "memcached hangs up on a line of more than 2048 bytes, or reads it, as the bytes happen to be cut": rb"[^\n]{2048}",
    "memcached 1.6.18 forgets answers to what came before in the same packet when a key of a read is too long": rb"[\s\S](?:get|gets|gat|gats) [^\n\0]*?[^ \n\0]{251}",
    "memcached 1.6.18 refuses a long opaque after it has done what was asked": rb"^ *m[ag] [^\n]* O[^ \n]{32}",
    "memcached 1.6.18 cuts a length to 32 bits and takes what is left; here it is refused": rb"(?:ms|(?:set|add|replace|append|prepend|cas) +[^ \n]+ +[^ \n]+) +[^ \n]+ +[\t\v\f\r]*[+-]?\d{10}",
    "memcached takes an unsigned number below -2^63 for a positive one; here it is refused": rb"-(?:9223372036854775809|1\d{19})",
}

#: Patterns of numbers, without and with a sign, that 1.6.18 accepts and does not truncate.
_UNSIGNED = rb"[\t\v\f\r]*(?:\+?\d{1,18}|-0+)(?:[\t\v\f\r][^ \n\0]*)?"
_SIGNED = rb"[\t\v\f\r]*[+-]?\d{1,18}(?:[\t\v\f\r][^ \n\0]*)?"
_KEY = rb"[^ \n\0]{1,250}"
_END = rb"(?: +[^ \n\0]+)? *\r?[\n\0]"

#: Where the replies of memcached 1.6.18 differ from those of 1.6.45 and the proxy, besides the text of errors.
OLD = {
    "it takes the data block of a storage command for commands if anything in its line is wrong, not the length alone": rb"^ *(?!(?:set|add|replace|append|prepend) +%b +%b +%b +%b%b|cas +%b +%b +%b +%b +%b%b)(?:set|add|replace|append|prepend|cas)(?= )"
    % (_KEY, _UNSIGNED, _SIGNED, _UNSIGNED, _END, _KEY, _UNSIGNED, _SIGNED, _UNSIGNED, rb"\d{1,20}", _END),
    "the same of an ms with a long key, or with many flags": rb"^ *ms +(?:[^ \n]{251}|[^\n]*(?: +[^ \n]+){16})",
    "it answers ERROR to a delete of many words": rb"^ *delete(?: +[^ \n\0]+){4}",
    "it refuses words that mean nothing": rb"^ *(?:touch|incr|decr)(?: +[^ \n\0]+){4}|^ *flush_all(?: +[^ \n\0]+){3}",
    "it does not take the key of a delete for noreply, too": rb"^ *delete +noreply *\r?[\n\0]",
    "it answers END to a gat without a key": rb"^ *gats? +[^ \n\0]+ *\r?[\n\0]",
    "it answers an unknown command that ends in noreply": rb"(?:^| )noreply *\r?[\n\0]",
    "it answers a quiet ma that makes the item, but not one that finds it: the proxy cannot tell one from the other": rb"^ *ma (?=[^\n]* q)(?=[^\n]* N)",
    "it wants exactly one letter in a mode": rb"^ *m[gsda] [^\n]* M(?:[^ \n]{2}|[ \r\n])",
}

#: Where the replies of memcached 1.6.45 differ from those of the proxy.
NEW = {
    "it takes no number with a plus, no -0 for one without a sign, and none with white space around it, where 1.6.18 and the proxy do": rb" -0+[ \r\n]|[ \n][A-Z]?(?!0\d{4})(?:[\t\v\f\r]*\+\d|[\t\v\f\r]+[+-]?\d|[+-]?\d+(?:[\t\v\f]|\r(?!\n)))",
    "it ignores a time to wait in a delete": rb"^ *delete +[^ \n\0]+ +(?!(?:0|noreply|0 +noreply) *\r?[\n\0])[^ \n\0]",
    "it takes a minus alone for 0": rb" -[ \r\n]",
    "it takes no time of more than 32 bits but in set and the like, and no flags of more in ms": rb"^ *(?:touch|gats?|flush_all)[^\n]* -?\d{10}|^ *m[gsda] [^\n]* (?:[TNR]-?\d{10}|F(?:\d{11}|4294967296))",
    "it takes no command behind blanks": rb"^ +[^ \r\n]",
    "it does not end a line at a NUL": rb"^ *[a-z][^\n]*\0|\0[^\r\n]",
    "it takes a second CR for part of the last word": rb"\r\r\n",
    "it answers a get of a key that is too long with a second line end": rb"^ *(?:get|gets|gat|gats) [^\n]*[^ \n]{251}",
    "it decodes no key in base64 for an me": rb"^ *me +[^ \n]+ +b",
    "it takes one word more in a meta command": rb"^ *m[gsda](?: +[^ \n]+){17}",
    "it takes the data block of an ms with a word that can be no flag for commands: here it is read to its end": rb"^ *ms [^\n]* (?![0-9A-z \n]|\r\n)",
    "it looks at no more than 24 words, also for noreply": rb"^ *[a-z](?:[^ \n]* +){22}[^\n]*noreply",
}

#: Commands that the binary protocol does not have. They are left out if the proxy's servers use it.
UNSAYABLE = {
    "binary has no counterpart to these flags": rb"(?:mg [^\n]* [hltNR]|m[sd] [^\n]* I|ms [^\n]* N|ma [^\n]* [tT])",
    "binary has no counterpart to what memcached 1.6.45 has added": rb"m[gsda] [^\n]* [Ex]|mg [^\n]* C|ms [^\n]* s",
    "binary has no me": rb"me ",
}

_EXCUSED, _UNSAYABLE, _OLD, _NEW = (
    [re.compile(each, re.MULTILINE) for each in patterns.values()] for patterns in (EXCUSED, UNSAYABLE, OLD, NEW)
)

#: The h flag: whether an item was fetched before. memcached makes a new item of a counter whose old value is still in use. That depends on how
#: many commands arrive in one packet: `ma k`, `mg k h`, `ma k`, `mg k h` in one packet end with h0, in one packet each with h1.
_FETCHED = re.compile(rb"^((?:HD|VA \d+)(?: [^\n]*)?) h[01]", re.MULTILINE)

#: Error lines, whose text differs between memcached 1.6.18 and 1.6.45.
_REFUSAL = re.compile(rb"^(?:ERROR|CLIENT_ERROR [^\r\n]*)\r\n", re.MULTILINE)


def is_excused(said, backends, version):
    """True if a conversation cannot be compared. `backends` is the protocol of the proxy's servers, `version` that of memcached."""
    return any(pattern.search(said) for pattern in _EXCUSED) or not can_be_said(said, backends, version)


def can_be_said(said, backends, version):
    """False if `said` contains commands that the protocol `backends` does not have, or that are excused for this `version`."""
    if any(pattern.search(said) for pattern in (_OLD if is_old(version) else _NEW)):
        return False
    return backends == "text" or not any(pattern.search(said) for pattern in _UNSAYABLE)


def same(proxy, memcached, is_over, version):
    """True if both replies are the same, without what is excused. `is_over(answers)`: True if the replies are complete."""
    if is_old(version):
        proxy, memcached = (_REFUSAL.sub(b"REFUSED\r\n", answers) for answers in (proxy, memcached))
    if not is_over(memcached):
        # The client disconnected inside of a data block. memcached then discards the replies to earlier requests in the same
        # packet, so the test only checks that the proxy was inside of a data block, too.
        return not is_over(proxy)
    proxy, memcached = (_FETCHED.sub(rb"\1 hFETCHED", comparable(answers)) for answers in (proxy, memcached))
    return proxy == memcached
