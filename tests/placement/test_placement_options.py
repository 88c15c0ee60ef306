"""The options of `build`, which of them it refuses, and what changes when a server is removed."""

from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.placement.builder import DISTRIBUTIONS, HASHES, PROFILES, SETTINGS, build
from gmproxy.placement.distributions import Member, labels_f32, labels_f64
from gmproxy.placement.labels import LABELS, parse_hosts, point_label
from gmproxy.placement.server_spec import parse_servers

FIVE = parse_servers("10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4:11212,10.0.0.5")
KEYS = [sha1(b"%d" % i).hexdigest().encode() for i in range(2000)]
STEADY = [name for name in DISTRIBUTIONS if name != "random"]


def owners(placement, keys=KEYS):
    return [placement.locate(key) for key in keys]


# -- every distribution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEADY)
def test_same_servers_same_answer(name):
    assert owners(build(FIVE, name)) == owners(build(list(FIVE), name))


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != "magent-ketama-0.6"])
def test_all_servers_are_used(name):
    assert set(owners(build(FIVE, name))) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_one_server_takes_everything(name):
    assert set(owners(build(FIVE[:1], name))) == {0}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_sockets_and_ipv6_have_a_place_too(name):
    servers = parse_servers("unix:/run/a.sock, [::1]:11211, [::1]:11212, host:11211")
    assert set(owners(build(servers, name, hosts="host=10.0.0.1"))) <= {0, 1, 2, 3}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_any_bytes_are_a_key(name):
    placement = build(FIVE, name)
    for key in (b"", b"\xff", b"caf\xc3\xa9", b"\xed\xa0\x80", bytes(range(256)), b"k" * 5000):
        assert placement.locate(key) in range(5)


@pytest.mark.parametrize("name", HASHES)
def test_any_hash_can_be_shown_and_used(name):
    placement = build(FIVE, "modulo", name)
    assert placement.hash(b"key") == HASHES[name](b"key")
    assert placement.locate(b"key") == HASHES[name](b"key") % 5


# -- live servers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_only_live_servers_are_chosen(name):
    assert set(owners(build(FIVE, name, live={1, 4}))) == {1, 4}
    assert set(owners(build(FIVE, name, live={3}))) == {3}


@pytest.mark.parametrize("name", STEADY)
def test_all_live_is_the_default(name):
    assert owners(build(FIVE, name, live=set(range(5)))) == owners(build(FIVE, name))


@pytest.mark.parametrize("name", STEADY)
def test_the_rest_is_placed_as_if_the_dead_had_never_been(name):
    survivors = [FIVE[0], FIVE[2], FIVE[3]]
    renumbered = [[0, 2, 3][owner] for owner in owners(build(survivors, name))]
    assert owners(build(FIVE, name, live={0, 2, 3})) == renumbered


@pytest.mark.parametrize("name", ["ketama", "libmemcached-ketama", "libmemcached-ketama-weighted", "magent-ketama", "dalli", "rendezvous"])
def test_a_ring_keeps_the_keys_of_the_living(name):
    before = owners(build(FIVE, name))
    after = owners(build(FIVE, name, live={0, 1, 2, 4}))
    assert all(new == old for old, new in zip(before, after) if old != 3)
    assert 3 in before and 3 not in after


def test_weights_of_the_dead_still_make_libmemcached_weighted():
    servers = parse_servers("a:1:1,b:1:1,c:1:2")
    weighted = build(servers, "libmemcached-ketama-weighted", "one_at_a_time", live={0, 1})
    assert owners(build(servers, "libmemcached-consistent", live={0, 1})) == owners(weighted)


def test_nobody_live():
    with pytest.raises(ValueError, match="no server is live"):
        build(FIVE, "ketama", live=set())
    with pytest.raises(ValueError, match="no servers"):
        build([], "ketama")


# -- points ------------------------------------------------------------------------------------------------------------


def members(weights):
    return [Member(i, f"server{i}", weight) for i, weight in enumerate(weights)]


@pytest.mark.parametrize("count, labels", [(3, 40), (24, 40), (25, 39), (47, 39), (50, 39), (55, 39), (56, 40)])
def test_single_precision_costs_some_server_counts_a_label(count, labels):
    assert set(labels_f32(members([1] * count), 40)) == {labels}


@pytest.mark.parametrize("count, labels", [(3, 500), (47, 499), (59, 499), (83, 499), (94, 499)])
def test_magents_labels(count, labels):
    assert set(labels_f32(members([1] * count), 500)) == {labels}


def test_magent_06_gives_one_server_nearly_everything():
    fortunate = owners(build(FIVE, "magent-ketama-0.6"))
    assert max(fortunate.count(i) for i in range(5)) > 0.98 * len(KEYS)


def test_weights_share_the_labels():
    assert labels_f32(members([1, 3, 7, 7, 7]), 40) == [7, 23, 56, 56, 56]
    assert labels_f64(members([1, 3, 7, 7, 7]), 40) == [8, 24, 56, 56, 56]


def test_twemproxy_sorts_short_names_first_and_does_not_mind_the_order_given():
    names = ["server10", "server2", "server1"]
    servers = parse_servers(",".join(f"h{name}:1:1 {name}" for name in names))
    one_each = build(servers, "modula", "djb")
    in_order = [servers[2], servers[1], servers[0]]
    assert owners(one_each) == [[2, 1, 0][owner] for owner in owners(build(in_order, "magent"))]


def test_a_name_stands_for_the_address_on_a_ring():
    before = parse_servers("10.0.0.1:11211,10.0.0.2:11300")
    moved = parse_servers("10.9.9.1:1:1 10.0.0.1,10.9.9.2:2:1 10.0.0.2:11300")
    for name in ("ketama", "libmemcached-ketama", "hashring"):
        assert owners(build(moved, name)) == owners(build(before, name))


# -- the part of a key that is hashed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag, key, part",
    [
        ("{}", b"a{b}c", b"b"),
        ("{}", b"{b}{c}", b"b"),
        ("{}", b"a}{b}", b"b"),
        ("{}", b"{}{b}", b"{}{b}"),
        ("{}", b"{b", b"{b"),
        ("{}", b"b}", b"b}"),
        ("::", b"a:b:c", b"b"),
        ("::", b"a::b:", b"a::b:"),
        ("", b"a{b}c", b"a{b}c"),
    ],
)
def test_hash_tag(tag, key, part):
    placement = build(FIVE, "ketama", hash_tag=tag)
    assert placement.hashed_part(key) == part
    assert placement.locate(key) == build(FIVE, "ketama").locate(part)
    assert placement.hash(key) == HASHES["fnv1a_64"](part)


def test_unhashed_prefix_is_taken_off_where_it_stands():
    placement = build(FIVE, "buckets", unhashed_prefix="app:")
    assert placement.hashed_part(b"app:key") == b"key"
    assert placement.hashed_part(b"app:app:key") == b"app:key"
    assert placement.hashed_part(b"key") == b"key"
    assert build(FIVE, "buckets", "", "{}", unhashed_prefix="a{b}").hashed_part(b"a{b}{c}") == b"c"


# -- profiles, names and refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_build(name):
    profile = PROFILES[name]
    assert profile.description
    assert set(owners(build(FIVE, profile=name))) <= set(range(5))


def test_nothing_said_is_magent():
    assert owners(build(FIVE)) == owners(build(FIVE, profile="magent")) == owners(build(FIVE, "magent", "djb"))


def test_what_is_said_beside_a_profile_wins():
    assert build(FIVE, profile="libmemcached", hash="md5").hash_name == "md5"
    other = build(FIVE, "ketama", profile="dalli")
    assert (other.distribution, other.hash_name) == ("ketama", "fnv1a_64")


def test_every_option_has_a_description():
    options = set(build.__kwdefaults__) - {"profile", "live"}
    assert options == set(SETTINGS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"distribution": "modulus"}, "unknown distribution 'modulus': expected one of magent, "),
        ({"hash": "sha256"}, "unknown hash 'sha256': expected one of one_at_a_time, md5, "),
        ({"profile": "perl"}, "unknown profile 'perl': expected one of magent, "),
        ({"label": "long"}, "unknown label 'long': expected one of full, short, "),
        ({"server_order": "random"}, "unknown server_order 'random': expected one of given, name, host"),
        ({"distribution": "libmemcached-ketama", "point_hash": "x"}, "unknown point_hash 'x': expected one of "),
        ({"distribution": "ketama", "points": 9}, "points cannot be used with distribution ketama"),
        ({"distribution": "perl-fast-ketama", "points": -1}, "points must be positive, not -1"),
        ({"distribution": "rendezvous", "hash": "md5"}, "hash 'md5' cannot be used with distribution rendezvous: expected murmur3_32"),
        ({"distribution": "hashring", "hash": "crc32"}, "hash 'crc32' cannot be used with distribution hashring: expected md5 or sha1"),
        ({"hash_tag": "{"}, "bad hash tag '{': expected two characters"),
        ({"hosts": "localhost"}, "bad host 'localhost': expected name=address"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError) as error:
        build(FIVE, **arguments)
    assert message in str(error.value)


def test_buckets_need_whole_weights():
    with pytest.raises(ValueError, match="weight 1.5 of server 'a:1' must be a whole number"):
        build(parse_servers("a:1:1.5,b:1"), "buckets")


@pytest.mark.parametrize("name", ["buckets", "perl-fast", "perl-fast-ketama", "php-memcache-consistent"])
def test_huge_weights_are_refused(name):
    with pytest.raises(ValueError, match="use smaller weights"):
        build(parse_servers("a:1:999999999,b:1"), name)


@pytest.mark.parametrize("name", ["perl-fast", "perl-fast-ketama", "php-memcache-consistent"])
def test_tiny_weights_are_refused(name):
    with pytest.raises(ValueError, match="weights are too small"):
        build(parse_servers("a:1:0.001,b:1:0.001"), name)


def test_spymemcached_must_know_the_address_of_a_name():
    servers = parse_servers("cache1,10.0.0.2")
    with pytest.raises(ValueError, match="set hosts to cache1=ADDRESS"):
        build(servers, profile="spymemcached-ketama")
    build(servers, profile="spymemcached-ketama", hosts="cache1=10.0.0.1")


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label_format, plain, default_port, socket",
    [
        ("full", "10.0.0.1:1", "host:11211", "/s"),
        ("short", "10.0.0.1:1", "host", "/s:0"),
        ("twemproxy", "10.0.0.1:1", "host", "/s:"),
        ("dash", "10.0.0.1-1", "host-11211", "/s-0"),
        ("slash", "/10.0.0.1:1", "/host:11211", "//s:0"),
        ("zero", "10.0.0.1\0001", "host\00011211", "/s\0000"),
        ("spymemcached", "10.0.0.1:1", "host/10.0.0.2:11211", "/s"),
        ("spymemcached-short", "other:1", "host", "/s:0"),
    ],
)
def test_labels(label_format, plain, default_port, socket):
    hosts = parse_hosts("host = 10.0.0.2; other=10.0.0.1,")
    servers = parse_servers("10.0.0.1:1,host,unix:/s,a:1:1 named")
    assert [point_label(server, label_format, hosts) for server in servers] == [plain, default_port, socket, "named"]
    assert label_format in LABELS


@given(st.lists(st.integers(1, 20), min_size=2, max_size=12), st.binary(min_size=1, max_size=40))
def test_any_whole_weights_fit_any_distribution(weights, key):
    servers = parse_servers(",".join(f"10.0.0.{i}:1:{weight}" for i, weight in enumerate(weights)))
    for name in ("ketama", "modula", "dalli", "hashring", "perl-fast", "libketama", "whalin-consistent"):
        assert build(servers, name).locate(key) in range(len(servers))
