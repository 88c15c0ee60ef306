"""The fault suite: a steady load through a real proxy while its servers, its wires and the proxy itself fail, and proof that no answer was wrong
and none was missing.

    values.py     values that say whose they are and which of their key's writes they come from
    model.py      what a read may find, given what its writers were told
    client.py     one connection that distinguishes its end from a late answer
    dialects.py   the same requests in text, meta and binary
    worker.py     one client of the load: asks, and judges every answer
    load.py       the clients: what they write and read, until the end of the load
    tally.py      what they counted, and what they must never have seen
    pauses.py     when nobody could be answered, for no fault of the proxy
    stage.py      the servers, the wires to them, and the proxy
    service.py    the proxy under faults of its own: stopped, reloaded, a worker killed
    driver.py     faults, and a seeded hand that chooses among them
    promises.py   what may not be expected yet of several workers
    report.py     what came out, as a table
    bystander.py  a client whom nothing of it concerns, and how long it waits
"""
