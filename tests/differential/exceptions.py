"""Where gmproxy and memcached may answer differently: each case with its reason. Nothing else is excused."""

import re

from wire.sample import comparable

EXCUSED = {
    "answered by the proxy for itself: who it is, what it counts, what it logs":
        rb"^ *(?:version|stats|verbosity)[ \r\n\0]",
    "the administration of one memcached is unknown here":
        rb"^ *(?:slabs|lru|lru_crawler|watch|cache_memlimit|extstore|refresh_certs|shutdown|misbehave|debugtime)[ \r\n\0]",
    "a delayed flush_all takes what is stored in the same second, or not, as the clocks of two servers happen to stand":
        rb"flush_all +[^\n]*[1-9]",
    "memcached hangs up on a line of more than 2048 bytes, or reads it, as the bytes happen to be cut":
        rb"[^\n]{2048}",
    "memcached 1.6.18 forgets answers to what came before in the same packet when a key of a read is too long":
        rb"[\s\S](?:get|gets|gat|gats) [^\n\0]*?[^ \n\0]{251}",
    "memcached 1.6.18 answers a quiet ma that makes the item, but not one that finds it: the proxy cannot tell one from the other":
        rb"^ *ma (?=[^\n]* q)(?=[^\n]* N)",
    "memcached 1.6.18 refuses a long opaque after it has done what was asked":
        rb"^ *m[ag] [^\n]* O[^ \n]{32}",
    "memcached 1.6.18 cuts a length to 32 bits and takes what is left; here it is refused":
        rb"(?:ms|(?:set|add|replace|append|prepend|cas) +[^ \n]+ +[^ \n]+) +[^ \n]+ +[\t\v\f\r]*[+-]?\d{10}",
    "memcached takes an unsigned number below -2^63 for a positive one; here it is refused":
        rb"-(?:9223372036854775809|1\d{19})",
}

#: What cannot be said to servers that speak binary: it is left out where the proxy's do.
UNSAYABLE = {
    "binary has no counterpart to these flags":
        rb"(?:mg [^\n]* [hltNR]|m[sd] [^\n]* I|ms [^\n]* N|ma [^\n]* [tT])",
    "binary has no me":
        rb"me ",
}

_EXCUSED, _UNSAYABLE = ([re.compile(each, re.MULTILINE) for each in patterns.values()] for patterns in (EXCUSED, UNSAYABLE))


def is_excused(said, backends):
    """True if a conversation cannot be compared where the proxy's servers speak `backends`."""
    return any(pattern.search(said) for pattern in _EXCUSED) or not can_be_said(said, backends)


def can_be_said(said, backends):
    """False if servers that speak `backends` cannot be told some of it."""
    return backends == "text" or not any(pattern.search(said) for pattern in _UNSAYABLE)


def same(proxy, memcached, is_over):
    """True if the answers of both are the same but for what is excused. `is_over(answers)`: all was answered."""
    if not is_over(memcached):
        # The client left in the middle of a data block. memcached then forgets the answers to what came before in the same
        # packet: that the proxy, too, found itself in the middle of a block is all that can be said.
        return not is_over(proxy)
    return comparable(proxy) == comparable(memcached)
