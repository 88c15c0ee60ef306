"""What the service reports over HTTP and on its twemproxy stats port: real processes, with one worker and with two."""

import json
import signal
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.keys import keys_by_server
from support.servers import HOST, free_port
from support.service import order, reloaded
from support.talk import storage
from support.timing import PATIENCE, eventually

KEYS = keys_by_server(2, 20)


def ask(port, path, method="GET"):
    """(status, body)"""
    question = urllib.request.Request(f"http://{HOST}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(question, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Service:
    """A proxy with all monitoring enabled, in front of two servers."""

    def __init__(self, memcached, proxy, path, *arguments):
        self.servers = [memcached(), memcached()]
        self.port, self.stats_port = free_port(), free_port()
        self.process = proxy(
            *(part for server in self.servers for part in ("-s", server.address)),
            "--admin",
            f"{HOST}:{self.port}",
            "--stats-port",
            self.stats_port,
            "--control",
            path,
            *arguments,
        )
        self.process.control = str(path)

    def get(self, path, method="GET"):
        return ask(self.port, path, method)

    def report(self):
        status, body = self.get("/report.json")
        assert status == 200
        return json.loads(body)

    def backends(self):
        return self.report()["pools"]["default"]["backends"]

    def metrics(self):
        """{(name, labels as a sorted tuple): value}"""
        status, body = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }

    def metric(self, name, backend=None, **labels):
        if backend is not None:
            labels |= {"pool": "default", "backend": self.servers[backend].address, "role": "primary"}
        return self.metrics()[name, tuple(sorted(labels.items()))]

    def use(self, clients=4):
        """20 sets and hits on each server, 20 misses on the first. Several clients send them, so that each worker may receive some."""
        talks = [self.process.talk() for _ in range(clients)]
        for number, key in enumerate(KEYS[0] + KEYS[1]):
            talk = talks[number % clients]
            talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")
            talk.ask(b"get %b\r\n" % key, b"END\r\n")
        for number, key in enumerate(keys_by_server(2, 40)[0][20:]):
            talks[number % clients].expect(b"get %b\r\n" % key, b"END\r\n")
        for talk in talks:
            talk.close()


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def service(request, memcached, proxy, tmp_path):
    made = Service(memcached, proxy, tmp_path / "control", "--workers", request.param)
    eventually(lambda: len(order(made.process, "ping")["workers"]) == request.param, what="all workers serve")
    return made


def test_metrics_count_what_clients_did(service):
    service.use()
    assert service.metric("gmproxy_backend_requests_total", 0, command="set") == 20
    assert service.metric("gmproxy_backend_requests_total", 0, command="get") == 40
    assert service.metric("gmproxy_backend_hits_total", 0) == 20
    assert service.metric("gmproxy_backend_misses_total", 0) == 20
    assert service.metric("gmproxy_backend_misses_total", 1) == 0
    assert service.metric("gmproxy_backend_latency_seconds_count", 0) == 60
    assert service.metric("gmproxy_backend_latency_seconds_bucket", 1, le="+Inf") == 40
    assert service.metric("gmproxy_backend_latency_seconds_sum", 0) > 0
    assert service.metric("gmproxy_backend_key_share", 0) == 0.5
    assert service.metric("gmproxy_backend_up", 0) == 1
    sent = sum(len(storage(b"set", key, b"hello")) + len(b"get %b\r\n" % key) for key in KEYS[1])
    assert service.metric("gmproxy_backend_sent_bytes_total", 1) == sent
    assert service.metric("gmproxy_clients_read_bytes_total", pool="default") > 2 * sent


def test_every_metric_is_explained(service):
    service.use()
    _, body = service.get("/metrics")
    families = list(text_string_to_metric_families(body.decode()))
    assert all(family.name.startswith("gmproxy_") and family.documentation for family in families)
    assert all(family.samples for family in families), "a name without a value"


def test_an_ejected_server_is_seen_everywhere(service):
    service.use()
    lost = service.servers[0]
    lost.kill()

    def ejected():
        with service.process.talk() as talk:
            talk.ask(b"get %b\r\n" % KEYS[0][0])
        return service.backends()[0]["state"] in ("ejected", "probing")

    eventually(ejected, what="the lost server is ejected")
    backend = service.backends()[0]
    assert backend["last_error"].split()[0] in ("connecting", "closed", "reset")
    assert 0 < backend["state_since"] <= service.report()["time"]
    assert sum(backend["errors"].values()) >= 3
    assert service.metric("gmproxy_backend_up", 0) == 0
    degraded = 200, b"degraded: %b ejected\n" % lost.address.encode()
    eventually(lambda: service.get("/healthz") == degraded, what="health says so, and that the other server serves")
    assert [event["server"] for event in service.report()["events"] if event["what"] == "backend ejected"] == [lost.address]
    told = json.loads(service.get("/stats.json")[1])["default"]
    assert told["server_ejects"] >= 1
    assert told[lost.address]["server_ejected_at"] > 1e15
    assert told[service.servers[1].address]["server_ejected_at"] == 0


def test_health_says_why_it_is_bad(service):
    assert service.get("/healthz") == (200, b"ok\n")
    order(service.process, "eject", *(server.address for server in service.servers))
    eventually(lambda: service.get("/healthz") == (503, b"pool default: all servers are ejected\n"), what="bad health")
    order(service.process, "restore", *(server.address for server in service.servers))
    eventually(lambda: service.get("/healthz") == (200, b"ok\n"), what="good health")


def test_twemproxys_structure(service):
    service.use()
    _, body = service.get("/stats.json")
    with socket.create_connection((HOST, service.stats_port), PATIENCE) as sock:
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    told = json.loads(body)
    assert json.loads(raw).keys() == told.keys()
    assert {"service", "source", "version", "uptime", "timestamp", "total_connections", "curr_connections"} < told.keys()
    pool = told["default"]
    assert {"client_eof", "client_err", "client_connections", "server_ejects", "forward_error", "fragments"} < pool.keys()
    server = pool[service.servers[0].address]
    assert server.keys() == {
        "server_eof",
        "server_err",
        "server_timedout",
        "server_connections",
        "server_ejected_at",
        "requests",
        "request_bytes",
        "responses",
        "response_bytes",
        "in_queue",
        "in_queue_bytes",
        "out_queue",
        "out_queue_bytes",
    }
    assert server["requests"] == server["responses"] == 60
    assert server["server_connections"] >= 1


def test_queues_show_what_a_server_has_not_answered(service):
    service.use()
    service.servers[0].pause()
    with service.process.talk() as talk:
        talk.send(b"get %b\r\n" % KEYS[0][0])
        queued = eventually(lambda: [one for one in [service.backends()[0]] if one["in_flight"]], what="a request in flight")[0]
        service.servers[0].resume()
    assert queued["in_flight"] == 1
    assert queued["bytes_waiting"] == len(b"get %b\r\n" % KEYS[0][0])


def test_the_other_questions(service):
    assert service.get("/nonsense")[0] == 404
    assert service.get("/metrics", "POST")[0] == 405
    assert service.get("/metrics", "HEAD") == (200, b"")
    assert service.get("/route")[0] == 400
    (way,) = json.loads(service.get(f"/route?key={KEYS[1][0].decode()}")[1])["pools"]["default"]
    assert way["server"] == way["goes_to"] == service.servers[1].address
    assert f"server = {service.servers[0].address}, {service.servers[1].address}" in service.get("/config")[1].decode()


def test_a_reload_moves_it(memcached, proxy, tmp_path):
    before, after = free_port(), free_port()
    file = tmp_path / "gmproxy.conf"
    file.write_text(f"server = {memcached().address}\nadmin = {before}\n")
    process = proxy("-c", file)
    assert ask(before, "/healthz") == (200, b"ok\n")
    file.write_text(file.read_text().replace(str(before), str(after)))
    process.signal(signal.SIGHUP)
    reloaded(process)
    assert ask(after, "/healthz") == (200, b"ok\n")
    with pytest.raises(OSError):
        socket.create_connection((HOST, before), PATIENCE)


def test_a_unix_socket(memcached, proxy, tmp_path):
    path = tmp_path / "admin"
    proxy("-s", memcached().address, "--admin", f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK"))
    assert answer.endswith(b"\r\n\r\nok\n")
    assert path.stat().st_mode & 0o777 == 0o660


@pytest.mark.long
def test_the_service_keeps_the_rates_of_its_past(service):
    """One point every 10 s, with the requests since the point before."""

    def points():
        status, body = service.get("/history.json")
        assert status == 200
        return json.loads(body)["points"]

    def requests(point):
        totals = point["pools"]["default"][""]
        return totals and totals[0]

    eventually(points, within=4 * PATIENCE, what="the first point")
    begun = len(points())
    service.use()
    eventually(lambda: any(map(requests, points()[begun:])), within=4 * PATIENCE, what="the rate of the requests")
    busy = next(point for point in points()[begun:] if requests(point))
    assert set(busy["pools"]["default"]) == {"", *(f"primary {server.address}" for server in service.servers)}
    assert requests(busy) == pytest.approx(sum(values[0] for name, values in busy["pools"]["default"].items() if name), rel=0.01)
    kept = len(points())
    order(service.process, "reload")
    reloaded(service.process)
    assert len(points()) >= kept, "a reload loses nothing"
