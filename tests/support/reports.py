"""Reports of a service, made by hand for the tests of the status page and gmproxyctl, which show them."""

BOUNDS = [0.0001, 0.001, 0.01, 0.1]

#: Time of the first report, Unix seconds; the service started one hour before.
THEN = 1_700_003_600.0


def backend(label, **changes):
    made = {
        "label": label,
        "name": "",
        "address": label,
        "weight": 1,
        "role": "primary",
        "set": "main",
        "zone": "",
        "enabled": True,
        "share": 0.5,
        "state": "up",
        "state_since": THEN - 3600,
        "last_error": "",
        "last_error_at": 0,
        "identity": {"pid": 17, "uptime": 7200, "version": "1.6.18"},
        "links": 2,
        "connects": 2,
        "in_flight": 0,
        "backlog": 0,
        "requests": {"get": 900, "set": 100},
        "keys": 1000,
        "hits": 750,
        "refills": 0,
        "refills_undone": 0,
        "errors": {"timeout": 0, "ejected": 0},
        "ejections": 0,
        "journal": 0,
        "journal_everything": False,
        "journal_age": 0.0,
        "journal_deleted": 0,
        "journal_flushes": 0,
        "by_hand": False,
        "bytes_sent": 20_000,
        "bytes_received": 400_000,
        "latency": {"count": 1000, "sum": 0.3, "buckets": [500, 490, 10, 0, 0]},
    }
    assert set(changes) <= set(made), changes
    role = changes.get("role", "primary")
    return made | {"set": "main" if role == "primary" else role} | changes


def pool(*backends, **changes):
    clients = {
        "current": 3,
        "asleep": 1,
        "accepted": 9,
        "rejected": 0,
        "dropped": 0,
        "limit": 4096,
        "held": 0,
        "bytes_read": 1,
        "bytes_written": 1,
    }
    made = {
        "clients": clients,
        "misses_for_errors": 0,
        "backup_writes_lost": 0,
        "backup_writes_differed": 0,
        "conflicting_changes": 0,
        "verify_compared": 0,
        "verify_different": 0,
        "flushes": 0,
        "options": {"timeout": "1000", "distribution": "ketama"},
        "backends": list(backends),
    }
    return made | changes


def report(pools=None, events=(), time=THEN, **changes):
    """A report of the service. `pools`: {name: pool()}; by default one pool with two servers that are up."""
    made = {
        "pid": 4711,
        "version": "1.2.3",
        "build": "pure",
        "started": THEN - 3600,
        "time": time,
        "workers": [4711],
        "process": {"cpu_user": 10.0, "cpu_system": 5.0, "resident": 40_000_000, "open_files": 20, "journal_errors": 0},
        "loop_lag": 0.001,
        "draining": False,
        "fills_enabled": True,
        "journal": "none",
        "pools": pools or {"default": pool(backend("10.0.0.1:11211"), backend("10.0.0.2:11211"))},
        "latency_bounds": BOUNDS,
        "events": list(events),
    }
    return made | changes


def event(what, server="", level="warning", time=THEN - 60, **more):
    return {
        "time": time,
        "level": level,
        "what": what,
        "pool": "default",
        "server": server,
        "detail": "",
        "since": time,
        "times": 1,
        "workers": 1,
        **more,
    }
