"""The memcached protocols: bytes in, requests and replies out. No socket, clock or greenlet in here."""
