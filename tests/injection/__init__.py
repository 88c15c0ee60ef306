"""Fault injection: an exception is raised in each function of gmproxy that can be a callback, an owner or a hook. All other clients are served.

points.py       the list of these functions, made from the source
instrument.py   a copy of gmproxy in which each of them can raise
injector.py     arms one of them, and reports whether it raised
clients.py      clients that check every reply meanwhile
stage.py        the processes: servers, the proxy, an operator
parts.py        the parts of the scenario, of some tenths of a second each
theatre.py      runs the parts, without a fault and with one
exceptions.py   what is left out, each with its reason
"""
