"""gmproxy: a memcached proxy. Many servers behind it look like one memcached."""

__version__ = "0.1.0"
