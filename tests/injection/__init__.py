"""Fault injection: an exception is raised in each function that a callback, owner or hook of gmproxy can be, and everybody else is served.

points.py       the list of these functions, made from the source
instrument.py   a copy of gmproxy in which each of them can be told to raise
injector.py     tells one of them to, and whether it did
bystanders.py   clients that check every answer meanwhile
stage.py        the processes: servers, the proxy, an operator
parts.py        what happens on that stage, in parts of some tenths of a second
exceptions.py   what is left out, each with its reason
"""
