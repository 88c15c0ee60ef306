"""Loads of several clients that share their keys, through several workers, while servers stop and gmproxy is killed: no overwritten value is
read, no increment is lost, and all servers of a key agree.

    histories.py      what a read of a shared key may return, given the replies to all writes
    load.py           the clients
    shared_client.py  one of them: random commands of all dialects on shared keys, every reply judged
    results.py        what they counted
    installation.py   servers, and gmproxy, which can be killed and started again at the same address
    kills.py          the ways in which gmproxy ends, at moments that a seed determines
    agreement.py      compares the memory of a primary and of another server of its keys
    parameters.py     the environment variables for duration and seed

A value is *stale* if its overwriting or deletion was acknowledged before the read was sent. In contrast to tests/faults, where each key has
one writer, all clients write all keys.
"""
