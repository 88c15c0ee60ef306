"""Three servers with keys: are all keys found?"""

from hashlib import sha1

from support.talk import storage


def keys_of(subject, count=500):
    """Short, long and random keys. Two subjects never have the same keys."""
    kinds = (
        lambda number: f"{subject}:{number}",
        lambda number: sha1(f"{subject}{number}".encode()).hexdigest(),
        lambda number: f"{subject}/{number}/{'long' * 48}",
    )
    return [kinds[number % 3](number) for number in range(count)]


def value_of(key):
    return f"value of {key}".encode()


def store(talk, keys):
    """Returns the keys that were not stored. They are sent one by one: a proxy may close the connection after an error."""
    return [key for key in keys if talk.ask(storage(b"set", key.encode(), value_of(key))) != b"STORED\r\n"]


def found(talk, keys, prefix=""):
    """The stored keys among `keys`, with their values. Each key is sent with `prefix`."""
    talk.send(b"".join(f"get {prefix}{key}\r\n".encode() for key in keys))
    answers = {key: talk.read_until(b"END\r\n") for key in keys}
    return [key for key, answer in answers.items() if answer.endswith(b"\r\n%b\r\nEND\r\n" % value_of(key))]


def counts(servers, keys, prefix=""):
    """How many of `keys` each server stores."""
    held = []
    for server in servers:
        with server.talk() as talk:
            held.append(len(found(talk, keys, prefix)))
    return held
