"""pylibmc; MODE is default, ketama or ketama_weighted."""

import sys

import pylibmc

mode, *servers = sys.argv[1:]
client = pylibmc.Client(servers, behaviors={} if mode == "default" else {mode: True})
for key in sys.stdin.read().split():
    if not client.set(key, f"value of {key}"):
        sys.exit(f"not stored: {key}")
