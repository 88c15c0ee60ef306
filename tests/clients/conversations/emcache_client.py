"""A conversation of emcache, in the text protocol, with the server whose address and port are the arguments. Prints a line for each reply."""

import asyncio
import hashlib
import sys

import emcache

LARGE = 1_000_000


async def say(what, answer):
    try:
        said = await answer
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(what, plain(said))


def plain(said):
    """`said` without cas numbers, which differ between servers; long values are replaced by their size and hash."""
    if isinstance(said, dict):
        return {key: plain(value) for key, value in sorted(said.items())}
    if isinstance(said, list):
        return [plain(one) for one in said]
    if isinstance(said, emcache.Item):
        value = said.value if len(said.value) < 100 else f"{len(said.value)} {hashlib.sha1(said.value).hexdigest()}"
        return value, said.flags, said.cas is not None
    return said


async def single(m):
    await say("get of nothing", m.get(b"one"))
    await say("replace of nothing", m.replace(b"one", b"x"))
    await say("append to nothing", m.append(b"one", b"x"))
    await say("delete of nothing", m.delete(b"one"))
    await say("touch of nothing", m.touch(b"one", 60))
    await say("gat of nothing", m.gat(60, b"one"))
    await say("set", m.set(b"one", b"\0\r\n\xff", flags=7, exptime=600))
    await say("get", m.get(b"one", return_flags=True))
    await say("gets", m.gets(b"one", return_flags=True))
    await say("add to something", m.add(b"one", b"x"))
    await say("add", m.add(b"two", b"2"))
    await say("replace", m.replace(b"two", b"b", flags=3))
    await say("append", m.append(b"two", b"c"))
    await say("prepend", m.prepend(b"two", b"a"))
    await say("get of what was appended to", m.get(b"two", return_flags=True))
    await say("gat", m.gat(600, b"two"))
    await say("gats", m.gats(600, b"two", return_flags=True))
    await say("touch", m.touch(b"two", 600))
    await say("touch that ends it", m.touch(b"two", -1))
    await say("get of what has expired", m.get(b"two"))
    await say("set of an empty value", m.set(b"empty", b""))
    await say("get of an empty value", m.get(b"empty"))
    await say("longest key", m.set(b"k" * 250, b"x"))
    await say("key too long", m.set(b"k" * 251, b"x"))
    await say("get of a key too long", m.get(b"k" * 251))
    await say("highest flags", m.set(b"flags", b"x", flags=2**16))
    await say("get of the highest flags", m.get(b"flags", return_flags=True))


async def conditional(m):
    await say("cas of nothing", m.cas(b"three", b"x", 1))
    await m.set(b"three", b"3")
    number = (await m.gets(b"three")).cas
    await say("cas", m.cas(b"three", b"4", number))
    await say("cas with an old number", m.cas(b"three", b"5", number))
    await say("get after cas", m.get(b"three"))


async def counters(m):
    await say("increment of nothing", m.increment(b"counter", 1))
    await m.set(b"counter", b"5")
    await say("increment", m.increment(b"counter", 3))
    await say("decrement below zero", m.decrement(b"counter", 100))
    await say("increment around", m.increment(b"counter", 2**64 - 1))
    await m.set(b"word", b"abc")
    await say("increment of a word", m.increment(b"word", 1))


async def many(m):
    keys = [b"many%d" % i for i in range(500)]
    await say("sets", asyncio.gather(*(m.set(key, b"value of " + key, flags=1) for key in keys[:400])))
    await say("get_many", m.get_many(keys, return_flags=True))
    await say("gets_many", m.gets_many(keys))
    await say("gat_many", m.gat_many(600, keys))
    await say("gats_many", m.gats_many(600, keys))
    await say("gets", asyncio.gather(*(m.get(key) for key in keys)))
    large = [b"large%d" % i for i in range(20)]
    await say("large sets", asyncio.gather(*(m.set(key, key * (LARGE // 14)) for key in large)))
    await say("large get_many", m.get_many(large))
    await say("large gets", asyncio.gather(*(m.get(key) for key in large)))
    await say("set of a value too large", m.set(b"large0", b"x" * 2 * LARGE))
    await say("get of a value too large", m.get(b"large0"))


async def unanswered(m):
    """Requests with noreply. `m` has only one connection, so each get is executed after them."""
    await say("quiet set", m.set(b"quiet", b"1", noreply=True))
    await say("get after it", m.get(b"quiet"))
    await say("quiet increment", m.increment(b"quiet", 1, noreply=True))
    await say("get after it", m.get(b"quiet"))
    await say("quiet touch", m.touch(b"quiet", 600, noreply=True))
    await say("quiet delete", m.delete(b"quiet", noreply=True))
    await say("get after it", m.get(b"quiet"))


async def administration(m, address):
    await say("verbosity", m.verbosity(address, 1))
    print("version", (await m.version(address))[:6])
    stats = await m.stats(address)
    print("stats", stats["curr_items"], sorted({"pid", "uptime", "version", "limit_maxbytes", "threads"} - stats.keys()))
    print("settings", (await m.stats(address, "settings"))["item_size_max"])
    items = await m.stats(address, "items")
    print("items", sum(int(value) for name, value in items.items() if name.endswith(":number")))
    await say("flush_all", m.flush_all(address))
    await say("get_many after it", m.get_many([b"one", b"word", b"large1"]))
    await say("flush_all later", m.flush_all(address, 600))


async def main(host, port):
    address = emcache.MemcachedHostAddress(host, port)
    client = await emcache.create_client([address], timeout=30, max_connections=8)
    for part in (single, conditional, counters, many):
        await part(client)
    await client.close()
    client = await emcache.create_client([address], timeout=30, max_connections=4, autobatching=True)
    await many(client)
    await client.close()
    client = await emcache.create_client([address], timeout=30, max_connections=1)
    await unanswered(client)
    await administration(client, address)
    await client.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
