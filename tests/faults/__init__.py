"""The fault suite: a steady load through a real proxy while its servers and its wires fail, and proof that no answer was wrong.

    values.py   a value that says whose it is and which of its key's writes it comes from
    model.py    what a read may find, given what its writers were told
    client.py   a small client of the text protocol that tells a lost connection from a late answer
    load.py     clients that write and read for as long as they are told, and judge every answer
    tally.py    what they counted, and what they must never have seen
    stage.py    the servers, the wires to them, and the proxy
    driver.py   faults, and a seeded hand that chooses among them
    report.py   what came out, as a table
    bystander.py   a client whom nothing of it concerns, and how long it waits
"""
