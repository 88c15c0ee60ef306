"""How the numbers of a binary packet lie in it, as memcached's protocol-binary.txt has them."""

import struct

#: How each packet begins: magic, opcode, lengths of key and extras, status (in a reply), length of the body, opaque, cas.
HEADER = struct.Struct(">BBHBxHIIQ")
