"""gmproxy: a memcached proxy. To its clients, the servers behind it look like a single memcached."""

__version__ = "0.2.0"

from gmproxy.compiled import choose_build

choose_build()
