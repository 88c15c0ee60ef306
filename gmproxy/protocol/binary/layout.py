"""The header of a packet, as in memcached's protocol-binary.txt. It is apart from packets.py since that imports codec.py, which needs it, too."""

import struct

#: magic, opcode, length of the key, length of the extras, status (of a reply), length of the body, opaque, cas. The body is extras, key and value.
HEADER = struct.Struct(">BBHBxHIIQ")
