"""The table of metrics: what is declared is exposed and documented, by Prometheus' conventions, and nothing else is.

`PYTHONPATH=.:tests:tests/support python tests/bandit/telemetry/test_metrics.py --write` renews docs/metrics.md.
"""

import re
import sys
from pathlib import Path

from live import Live, ok
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families
from promtool import promtool

from bandit.telemetry.table import METRICS, Metric

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "metrics.md"


def row(metric: Metric) -> str:
    """A metric's row on the page."""
    over = metric.over if metric.kind == "gauge" else "sum"
    return f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {over} | {metric.help} |"


HEAD = "| metric | type | labels | over | what |\n|---|---|---|---|---|\n"


def used(server: Live) -> str:
    """A scrape after traffic with something in most metrics."""
    home = server.experiment(
        slices={"learned": {}, "even": {"share": 0.5, "policy": {"type": "uniform"}}}, refunds="1d"
    )
    for i in range(20):
        decided = home.decided(decision_id=f"d{i}")
        home.decided(decision_id=f"d{i}")
        home.feedback(decision_id=decided["decision_id"], event="click")
        home.feedback(decision_id=decided["decision_id"], event="nonsense")
    home.feedback(decision_id="d0", event="sale", value=10, event_id="one")
    home.feedback(decision_id="d0", event="sale", refund_of="one", event_id="two")
    home.activate(home.decided(defer=True)["decision_id"])
    ok(home.post("feedback/batch", {"requests": [{"event": "click", "decision_id": "none"}]}))
    return server.client.get("/metrics").raise_for_status().text


def test_each_declared_metric_is_exposed_with_its_type_and_none_else(server: Live) -> None:
    """Also those that nothing was counted of yet."""
    families = list(text_string_to_metric_families(used(server)))
    found = {family.name + "_total" * (family.type == "counter"): family for family in families}
    assert found.keys() == METRICS.keys()
    for name, family in found.items():
        metric = METRICS[name]
        labels = {*metric.labels, *(["worker"] if metric.over == "worker" else [])}
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
    assert {s.labels["slice"] for s in found["bandit_slice_decisions_total"].samples} == {"learned", "even"}


def test_openmetrics_is_answered_where_it_is_asked_for(server: Live) -> None:
    """The same numbers in the other form, which ends with its own mark and has its own content type."""
    asked = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}
    answer = server.client.get("/metrics", headers=asked)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    names = {family.name for family in open_families(answer.text)}
    assert names == {name.removesuffix("_total") for name in METRICS}
    plain = server.client.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_promtool_has_no_complaint(server: Live) -> None:
    """Prometheus' own linter reads a real scrape: names, units, types and help."""
    assert promtool("check", "metrics", given=used(server)).strip() == ""


def test_names_follow_the_conventions() -> None:
    """A prefix, base units, `_total` of counters alone, a sentence of help."""
    for metric in METRICS.values():
        assert re.fullmatch(r"bandit_[a-z_]+", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert not re.search(r"_(ms|milliseconds|kb|mb|mib|minutes)(_|$)", metric.name)
        assert metric.help.endswith(".")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert list(metric.buckets) == sorted(set(metric.buckets))


def test_the_page_has_every_metric_and_no_other() -> None:
    """docs/metrics.md, row by row."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `bandit_")]
    assert rows == [row(metric) for metric in METRICS.values()]


def test_an_unknown_parameter_is_refused(server: Live) -> None:
    """As of every other address."""
    assert server.client.get("/metrics?nmae=x").status_code == 422


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    text = PAGE.read_text().partition(HEAD)[0]
    PAGE.write_text(text + HEAD + "".join(f"{row(metric)}\n" for metric in METRICS.values()))
