"""Bounds of the memcached protocol, with what memcached itself uses."""

import re

#: memcached: KEY_MAX_LENGTH.
MAX_KEY = 250

#: What cannot stand in a key of the text protocol; a carriage return could be taken for part of a line end.
NOT_TEXT = re.compile(rb"[\0\n\r ]")

#: A command line without its end after this many bytes is given up, unless it is a long get (memcached: 2048).
MAX_UNFINISHED_LINE = 2048

#: A complete command line that is no get. memcached reads 16 KiB at first and gives up a line that does not fit.
MAX_LINE = 16 * 1024

#: A get of many keys. memcached has no bound here; ours allows some 200,000 keys.
MAX_GET_LINE = 4 * 1024 * 1024

#: memcached: MFLAG_MAX_OPT_LENGTH, which counts one more; the words of a meta command.
MAX_META_WORDS = 19

#: An ms has one word less: while a server is ejected, a T may be added (routing/stand_in.py), and a line with too many words would leave the server
#: out of step, since memcached 1.6.18 then takes the data block for commands.
MAX_META_SET_WORDS = MAX_META_WORDS - 1

#: memcached: MFLAG_MAX_OPAQUE_LENGTH; the letter O included.
MAX_OPAQUE = 32

#: Bytes in the flags of a meta command, so that its line is never longer than what memcached reads in pieces (2048).
MAX_META_FLAGS = 1600

#: Quiet gets of the binary protocol that are asked for together.
MAX_QUIET_GETS = 500

#: A user name and password with what is around them, and the line before them (memcached: 2048 for the line).
MAX_LOGIN = 2048

#: A data block may be announced with at most this length (memcached: INT_MAX - 2).
MAX_ANNOUNCED_LENGTH = 2**31 - 3

#: Items larger than this are refused (memcached -I: 1 MiB, which there includes the key and a header).
DEFAULT_MAX_ITEM_SIZE = 1024 * 1024

#: memcached: REALTIME_MAXDELTA. A life of more seconds is taken for a date.
LONGEST_RELATIVE_LIFE = 30 * 86400

#: The last date, in unix time, that a life can be written as.
LAST_DATE = 2**31 - 1

#: A line that a server answers; memcached's own longest is far below.
MAX_REPLY_LINE = 8192

#: The values of one retrieval. Beyond it the client gets an error, as from a memcached without memory for the answer.
MAX_REPLY = 256 * 1024 * 1024

#: Bytes that may wait for all clients of the service, of requests half sent and of answers not taken. Beyond it, a client that adds to
#: them is closed.
MAX_HELD = 1024 * 1024 * 1024

#: Of these, for one client: the largest answer that there may be (MAX_REPLY), or the many answers of one batch.
MAX_HELD_BY_ONE = 256 * 1024 * 1024
