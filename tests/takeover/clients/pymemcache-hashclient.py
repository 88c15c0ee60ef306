"""pymemcache's HashClient, which has no weights. MODE is default, or bytes if the application encodes its keys itself."""

import sys

from pymemcache.client.hash import HashClient

mode, *servers = sys.argv[1:]
parts = [server.split(":") for server in servers]
client = HashClient([(host, int(port)) for host, port, weight in parts])
for key in sys.stdin.read().split():
    if not client.set(key.encode() if mode == "bytes" else key, f"value of {key}", noreply=False):
        sys.exit(f"not stored: {key}")
