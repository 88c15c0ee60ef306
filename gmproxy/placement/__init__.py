"""Which server has a key: the hashes, distributions and conventions of proxies and client libraries.

Nothing here blocks or needs gevent: all of it may be called from a loop callback, a greenlet or a process without an event loop.
"""
