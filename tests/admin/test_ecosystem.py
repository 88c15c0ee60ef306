"""conf/grafana and conf/prometheus use only metrics that /metrics has, and Prometheus accepts the alert rules."""

import importlib.util
import json
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from support.servers import HOST, free_port
from support.timing import PROGRAM_TIMEOUT, eventually

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "conf" / "prometheus" / "gmproxy.rules.yml"
DASHBOARD = ROOT / "conf" / "grafana" / "gmproxy.json"

#: Metrics that Prometheus adds itself.
ADDED_LABELS = {"job", "instance", "le"}
ADDED_METRICS = {"up"}

#: Words of PromQL that may be in the place of a metric.
WORDS = {
    "by",
    "and",
    "or",
    "unless",
    "offset",
    "vector",
    "sum",
    "max",
    "count",
    "rate",
    "increase",
    "changes",
    "min_over_time",
    "histogram_quantile",
}

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="prometheus is not installed")


def alerts():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard():
    return json.loads(DASHBOARD.read_text())


def expressions():
    """All PromQL expressions in both files."""
    board = dashboard()
    yield from (alert["expr"] for alert in alerts())
    yield from (target["expr"] for panel in board["panels"] for target in panel.get("targets", []))
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])
    yield from (variable["definition"] for variable in board["templating"]["list"] if "definition" in variable)


def metrics_in(expression):
    plain = re.sub(r"label_values\((.*), \w+\)", r"\1", expression)
    plain = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", " ", plain)
    return set(re.findall(r"(?<![\w.$])[a-z]\w*", plain)) - WORDS - {"d"}


def labels_in(expression):
    named = re.findall(r"\b(?:by|on) \(([^)]*)\)|label_values\(.*, (\w+)\)", expression)
    found = set(chain.from_iterable(re.split(r",\s*", one or other) for one, other in named))
    return found | set(re.findall(r"(\w+)\s*(?:=~|!=|=)", " ".join(re.findall(r"\{([^}]*)\}", expression))))


@pytest.fixture(scope="module")
def told():
    """The metrics of a running proxy that has served requests: {name of a series: its labels}."""
    if importlib.util.find_spec("gmproxy.monitoring.prometheus") is None:
        pytest.skip("this gmproxy has no metrics")
    from support.servers import Memcached, Proxy

    port = free_port()
    with (
        Memcached() as server,
        Memcached() as backup,
        Proxy("-s", server.address, "-b", backup.address, "--admin", f"{HOST}:{port}") as proxy,
    ):
        with proxy.talk() as talk:
            talk.expect(b"set k 0 0 1\r\n1\r\n", b"STORED\r\n")

        def text():
            with urlopen(f"http://{HOST}:{port}/metrics") as answer:
                return answer.read().decode()

        series = {}
        for name, labels in re.findall(r"^(\w+)(?:\{([^}]*)\})? ", eventually(text), re.MULTILINE):
            series.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
        return series


def test_the_expressions_are_read_right():
    expression = 'sum by (le, pool) (rate(gmproxy_x_bucket{job="$job", role!="backup"}[5m] offset 1d)) > 0.5 and up == 1e3'
    assert metrics_in(expression) == {"gmproxy_x_bucket", "up"}
    assert labels_in(expression) == {"le", "pool", "job", "role"}
    assert metrics_in('label_values(gmproxy_info{job="$job"}, instance)') == {"gmproxy_info"}
    assert len(list(expressions())) > 40


@pytest.mark.parametrize("expression", dict.fromkeys(expressions()))
def test_every_metric_is_there_with_its_labels(expression, told):
    metrics = metrics_in(expression)
    assert metrics and not metrics - set(told) - ADDED_METRICS
    assert not labels_in(expression) - ADDED_LABELS - set().union(*(told.get(name, set()) for name in metrics))


def test_every_alert_says_what_it_means():
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names))
    assert all(alert["labels"]["severity"] in ("warning", "critical") for alert in alerts())
    assert all(set(alert["annotations"]) == {"summary", "description"} for alert in alerts())


def test_every_alert_is_tried():
    tried = {
        check["alertname"]
        for test in yaml.safe_load((ROOT / "tests/admin/alerts.yml").read_text())["tests"]
        for check in test["alert_rule_test"]
        if check.get("exp_alerts")
    }
    assert tried == {alert["alert"] for alert in alerts()}


def test_panels_have_a_place_each():
    taken = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))


@promtool
def test_prometheus_takes_the_rules():
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path):
    """Each is checked as a recording rule, with values for Grafana's variables."""
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    queries += [annotation["expr"] for annotation in dashboard()["annotations"]["list"]]
    rules = [{"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_alerts_fire_when_they_should():
    done = subprocess.run(
        ["promtool", "test", "rules", ROOT / "tests/admin/alerts.yml"], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
