"""Limits of the memcached protocol. In brackets: the name or value in memcached. Sizes are in bytes."""

import re

#: Length of a key (KEY_MAX_LENGTH).
MAX_KEY = 250

#: A byte that a key of the text protocol cannot contain. memcached accepts a carriage return, but before a line feed it would end the line.
NOT_TEXT = re.compile(rb"[\0\n\r ]")

#: An incomplete command line, unless it is a get or gets: after more bytes the client is closed (2048).
MAX_UNFINISHED_LINE = 2048

#: A complete command line, unless it is a get or gets (16 KiB, the size of the first read).
MAX_LINE = 16 * 1024

#: The command line of a get or gets: room for some 200,000 keys (unlimited).
MAX_GET_LINE = 4 * 1024 * 1024

#: Words in the line of a meta command (MFLAG_MAX_OPT_LENGTH, which is one more).
MAX_META_WORDS = 19

#: The same for ms, to which a T may be added while a server is ejected (routing/stand_in.py). memcached 1.6.18 refuses a line with too many words
#: without its data block, which it then parses as commands.
MAX_META_SET_WORDS = MAX_META_WORDS - 1

#: An opaque, including the letter O (MFLAG_MAX_OPAQUE_LENGTH).
MAX_OPAQUE = 32

#: All flags of a meta command, so that its line is shorter than the 2048 bytes that memcached accepts in several pieces.
MAX_META_FLAGS = 1600

#: Number of quiet gets of the binary protocol that are joined to one request.
MAX_QUIET_GETS = 500

#: A user name and password, including what separates them, and the command line before them (2048 for the line).
MAX_LOGIN = 2048

#: The length of a data block in a command line, above which the line itself is refused (INT_MAX - 2).
MAX_ANNOUNCED_LENGTH = 2**31 - 3

#: A value (-I: 1 MiB, which in memcached includes the key and a header).
DEFAULT_MAX_ITEM_SIZE = 1024 * 1024

#: Seconds: a larger exptime is a date in unix time (REALTIME_MAXDELTA).
LONGEST_RELATIVE_LIFE = 30 * 86400

#: The last date, in unix time, that an exptime can be.
LAST_DATE = 2**31 - 1

#: A reply line of a server; those of memcached are much shorter.
MAX_REPLY_LINE = 8192

#: The reply to one request. For a longer one the client receives the error line of a memcached that lacks memory for it.
MAX_REPLY = 256 * 1024 * 1024

#: Bytes held for all clients of the service: incomplete requests, and replies that they have not received yet. Above it, a client that adds to
#: them is closed.
MAX_HELD = 1024 * 1024 * 1024

#: The same for one client: the longest reply (MAX_REPLY), or several replies of one batch.
MAX_HELD_BY_ONE = 256 * 1024 * 1024
