"""gmproxy: a memcached proxy. Many servers behind it look like one memcached."""

__version__ = "0.2.0"

from gmproxy.compiled import choose_build

choose_build()
