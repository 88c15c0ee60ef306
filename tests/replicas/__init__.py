"""Replicas: each set of servers has a full copy of the data.

cells.py          what each class of commands replies and does, in each state of the sets: the rows of the table in docs/replicas.md
sets.py           three sets of one memcached each, of which some cannot be reached
pools.py          pool files in which pools have a role
recorder.py       a scripted server that records its requests
contenders.py     gmproxy and memcached's own proxy over the same three sets
losses.py         a load that counts what a proxy loses: acknowledged writes that are missing or stale later, and failed requests
"""
