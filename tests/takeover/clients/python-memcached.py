"""python-memcached."""

import sys

import memcache

mode, *servers = sys.argv[1:]
addresses = [(address, int(weight)) for address, weight in (server.rsplit(":", 1) for server in servers)]
client = memcache.Client(addresses)
for key in sys.stdin.read().split():
    if not client.set(key, f"value of {key}"):
        sys.exit(f"not stored: {key}")
