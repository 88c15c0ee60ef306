"""The memcached protocols: bytes to requests and replies, and back.

Nothing here blocks, waits or needs gevent: all of it may be called from a loop callback, a greenlet or a process without an event loop. Only
RecvBuffer.receive touches a socket.
"""
