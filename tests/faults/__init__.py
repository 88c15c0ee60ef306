"""The fault suite: a steady load through gmproxy while servers, network and gmproxy itself fail, and proof that no reply was wrong
and none was missing.

    values.py     values that name their key and the writes that they come from
    model.py      what a read may return, given the replies to the writes
    client.py     one connection; it distinguishes a closed connection from a late reply
    dialects.py   the same requests in text, meta and binary
    worker.py     one client of the load: sends requests, and judges every reply
    load.py       the clients, which write and read until the end of the load
    tally.py      what the clients counted, and the replies that they must never receive
    pauses.py     times in which gmproxy could not reply, although it was not at fault
    stage.py      the servers, the relays to them, and gmproxy
    service.py    faults of gmproxy itself: stopped, reloaded, a worker killed
    driver.py     the faults, and a choice among them that a seed determines
    scenario.py   one run: what is started, what fails, and what must hold
    report.py     the results, as a table
    bystander.py  a client that no fault affects, and how long it waits
"""
