"""Keys for given servers."""

from gmproxy.placement import builder
from gmproxy.placement.server_spec import parse_servers


def keys_by_server(servers, wanted):
    """`wanted` keys for each of `servers` servers, by magent's placement, which depends only on the number of servers."""
    locate = builder.build(parse_servers(",".join(f"server{number}" for number in range(servers)))).locate
    found = [[] for _ in range(servers)]
    number = 0
    while any(len(keys) < wanted for keys in found):
        key = b"key%d" % number
        keys = found[locate(key)]
        if len(keys) < wanted:
            keys.append(key)
        number += 1
    return found
