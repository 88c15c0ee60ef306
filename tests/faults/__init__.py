"""The fault suite: a steady load through gmproxy while servers, network and gmproxy itself fail, and proof that no reply was wrong
and none was missing.

    values.py     values that name their key and the writes that they come from
    model.py      what a read may return, given the replies to the writes
    client.py     one connection, which distinguishes its end from a late reply
    dialects.py   the same requests in text, meta and binary
    worker.py     one client of the load: sends requests, and judges every reply
    load.py       the clients: what they write and read, until the end of the load
    tally.py      what they counted, and what they must never receive
    pauses.py     when no request could be answered, for no fault of gmproxy
    stage.py      the servers, the relays to them, and gmproxy
    service.py    the proxy under faults of its own: stopped, reloaded, a worker killed
    driver.py     faults, and a seeded choice among them
    promises.py   what may not be expected yet of several workers
    report.py     the results, as a table
    bystander.py  a client that no fault concerns, and how long it waits
"""
