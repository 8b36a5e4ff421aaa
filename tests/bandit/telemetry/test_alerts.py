"""The alert rules and Grafana's board: valid, doing what they say, and about metrics and labels that exist."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import Live, until
from prometheus_client.parser import text_string_to_metric_families
from promtool import promtool

from bandit.telemetry.table import METRICS

ROOT = Path(__file__).parents[3]
ALERTS, BOARD = ROOT / "docs" / "alerts.yml", ROOT / "docs" / "grafana.json"
SCRAPED = {"job", "instance", "le", "worker"}  # labels that come from Prometheus, or from how we expose
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
NAMES = re.compile(r"\bbandit_[a-z_]+")
PANELS = json.loads(BOARD.read_text())["panels"]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel.get("targets", ())
}


def of(sample: str) -> str:
    """The metric that a sample's name is of."""
    return sample if sample in METRICS else re.sub(r"_(bucket|sum|count)$", "", sample)


def test_prometheus_takes_the_rules() -> None:
    """`promtool check rules`."""
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", str(ALERTS))


def test_the_rules_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    """`promtool test rules`, on series that we know."""
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "alerts_test.yml"))


def test_promtool_understands_every_expression_of_the_board(tmp_path: Path) -> None:
    """Each as a rule, with Grafana's variables in place."""
    values = {"$__rate_interval": "5m", "$job": ".*", "$experiment": ".*"}
    rules: list[Any] = []
    for i, expression in enumerate(EXPRESSIONS.values()):
        for name, value in values.items():
            expression = expression.replace(name, value)
        rules.append({"record": f"panel:{i}", "expr": expression})
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", str(file))


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_expressions_are_of_metrics_and_labels_that_exist(where: str) -> None:
    """A name that is misspelt would be a panel without data, or an alert that never fires."""
    expression = EXPRESSIONS[where]
    named = {of(name) for name in re.findall(r"\bbandit_[a-z_]+", expression)}
    assert named <= METRICS.keys()
    labels = {label for name in named for label in METRICS[name].labels} | SCRAPED
    used = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    for group in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression):
        used |= {label.strip() for label in group.split(",") if label.strip()}
    assert used <= labels
    for sample in re.findall(r"\bbandit_[a-z_]+_bucket\b", expression):
        assert METRICS[of(sample)].kind == "histogram"
    for counter in re.findall(r"\b(bandit_[a-z_]+_total)\{?[^\[]*?(\[)?", expression):
        assert METRICS[counter[0]].kind == "counter"


def test_what_fires_at_the_first_event_is_counted_from_0(server: Live) -> None:
    """Prometheus sees no increase in a series that is born at 1, so each is there before anything has happened."""
    home = server.experiment()
    until(lambda: home.name in server.client.get("/metrics").text)
    samples = [each for family in text_string_to_metric_families(server.client.get("/metrics").text)
               for each in family.samples]  # fmt: skip
    single = [rule for rule in RULES if re.fullmatch(r"increase\(\w+\[10m\]\) > 0", rule["expr"])]
    assert [rule["alert"] for rule in single] == ["BanditWritesLost", "BanditBug"]
    for rule in single:
        (name,) = NAMES.findall(rule["expr"])
        own = {"experiment": home.name} if "experiment" in METRICS[name].labels else {}
        assert [each.value for each in samples if each.name == name and each.labels == own] == [0], name


def test_counters_are_asked_for_their_rates() -> None:
    """Nobody wants to know what a counter is: always a rate or an increase."""
    for where, expression in EXPRESSIONS.items():
        plain = re.sub(r"(rate|increase)\([^()]*?\[[^\]]*\]\)", "", expression)
        assert not re.findall(r"bandit_[a-z_]+_total", plain), where


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    """A summary and what to do about it; labels in the texts are labels that the alert has."""
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_board_is_what_its_program_draws_and_its_panels_do_not_overlap() -> None:
    """`python docs/grafana.py` would change nothing."""
    code = "import json, grafana; print(json.dumps(grafana.board(), indent=1))"
    drawn = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT / "docs", text=True)
    assert drawn == BOARD.read_text()
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_the_board_shows_nearly_everything() -> None:
    """What is counted and not shown is told here, with its reason."""
    left_out = {
        "bandit_last_decision_timestamp_seconds",  # the rate of decisions says it
        "bandit_key_expiry_timestamp_seconds", "bandit_last_archive_timestamp_seconds",  # alerts say it
        "bandit_workers", "bandit_replica_failed",  # alerts say where there is something to see
        "bandit_experiments", "bandit_build_info", "bandit_worker_start_timestamp_seconds",  # for whoever asks
    }  # fmt: skip
    shown = {
        of(name) for panel in PANELS for target in panel.get("targets", ()) for name in NAMES.findall(target["expr"])
    }
    assert METRICS.keys() - shown == left_out
