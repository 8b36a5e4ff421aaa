"""Writes docs/grafana.json, a board for Grafana: `python docs/grafana.py` writes it anew, the same bytes each time."""

import json
from pathlib import Path
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${source}"}
MINE = 'job=~"$job",experiment=~"$experiment"'
SERVER = 'job=~"$job"'
WIDE, HALF, THIRD, QUARTER = 24, 12, 8, 6


def rate(metric: str, by: str = "", where: str = MINE) -> str:
    """The sum of rates of a counter, by labels."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(q: float, metric: str, where: str = SERVER) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def panel(title: str, about: str, unit: str, width: int, *lines: tuple[str, str], kind: str = "timeseries") -> Any:
    """A panel: (expression, name of its lines) each."""
    targets = [
        {"datasource": SOURCE, "expr": expr, "legendFormat": legend, "refId": chr(65 + i)}
        for i, (expr, legend) in enumerate(lines)
    ]
    defaults: dict[str, Any] = {"unit": unit, "min": 0}
    if kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 2, "showPoints": "never"}
    options: dict[str, Any] = {"tooltip": {"mode": "multi", "sort": "desc"}} if kind == "timeseries" else {}
    return {
        "type": kind, "title": title, "description": about, "datasource": SOURCE, "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "width": width,
    }  # fmt: skip


ROUTES = f'{SERVER},route=~"/v1/experiments/{{e}}/(recommendations|feedback)"'
LOGGED = f'{MINE},kind=~"new|deferred"'
ACCEPTED = f'{MINE},outcome="accepted"'

CREDITED = rate("bandit_reward_credited_total", "experiment, reward")
TAKEN_BACK = rate("bandit_reward_taken_back_total", "experiment, reward")
REQUESTS = "bandit_http_request_duration_seconds"

ROWS: dict[str, list[Any]] = {
    "Is it well?": [
        panel("Workers ready", "Of all servers.", "none", QUARTER,
              (f"sum(bandit_workers_ready{{{SERVER}}})", ""), kind="stat"),
        panel("Store up", "1 where every server can use its store.", "none", QUARTER,
              (f"min(bandit_store_up{{{SERVER}}})", ""), kind="stat"),
        panel("Newest reward", "How long ago, of the experiment that has waited longest.", "s", QUARTER,
              (f"max(time() - max by (experiment) (bandit_last_reward_timestamp_seconds{{{MINE}}}))", ""), kind="stat"),
        panel("Writes lost", "Times the store had forgotten acknowledged writes, in a day.", "none", QUARTER,
              (f"sum(increase(bandit_gaps_total{{{MINE}}}[1d]))", ""), kind="stat"),
    ],
    "Decisions and rewards": [
        panel("Decisions", "New ones, a second.", "ops", HALF,
              (rate("bandit_decisions_total", "experiment", LOGGED), "{{experiment}}")),
        panel("Rewards", "Accepted feedback, a second.", "ops", HALF,
              (rate("bandit_feedback_total", "experiment, reward", ACCEPTED), "{{experiment}} {{reward}}")),
        panel("Reward a decision", "In reward units, when they come: late ones are of earlier decisions.", "none", HALF,
              (f"({CREDITED} - ({TAKEN_BACK} or {CREDITED} * 0)) / on(experiment) group_left "
               + rate("bandit_decisions_total", "experiment", LOGGED), "{{experiment}} {{reward}}")),
        panel("Explored", "Share of decisions that showed first what was less likely, or what was as likely as all.",
              "percentunit", HALF,
              *((rate(f"bandit_decisions_{kind}_total", "experiment") + " / "
                 + rate("bandit_decisions_total", "experiment", LOGGED), f"{{{{experiment}}}} {kind}")
                for kind in ("explored", "even"))),
        panel("Arms", "Share of what was shown, of experiments with few arms.", "percentunit", HALF,
              (rate("bandit_arm_decisions_total", "experiment, arm") + " / on(experiment) group_left "
               + rate("bandit_arm_decisions_total", "experiment"), "{{experiment}} {{arm}}")),
        panel("Slices", "Decisions, a second.", "ops", HALF,
              (rate("bandit_slice_decisions_total", "experiment, slice"), "{{experiment}} {{slice}}")),
        panel("Feedback by outcome", "Duplicates are harmless; late, unknown and refused ones are lost.", "ops", HALF,
              (rate("bandit_feedback_total", "outcome"), "{{outcome}}"),
              (rate("bandit_feedback_clipped_total"), "clipped"), (rate("bandit_refunds_total"), "refunds")),
        panel("Other answers", "Decisions given again or not logged, and activations.", "ops", HALF,
              (rate("bandit_decisions_total", "kind", f'{MINE},kind!~"new|deferred"'), "{{kind}}"),
              (rate("bandit_activations_total", "outcome"), "activation {{outcome}}")),
    ],
    "Requests": [
        panel("Requests", "A second.", "reqps", THIRD,
              (rate("bandit_http_requests_total", "route, code", SERVER), "{{route}} {{code}}")),
        panel("Time to answer", "Deciding and feedback.", "s", THIRD,
              *((quantile(q, REQUESTS, ROUTES), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99))),
        panel("Refused", "A second, by code; too many at once by where they waited.", "reqps", THIRD,
              (rate("bandit_problems_total", "code", SERVER), "{{code}}"),
              (rate("bandit_sheds_total", "reason", SERVER), "shed: {{reason}}"),
              (rate("bandit_bugs_total", "", SERVER), "errors of the server")),
        panel("Micro-batches", "Requests in one; more wait while the server is busy.", "none", THIRD,
              *((quantile(q, "bandit_tick_requests"), f"p{100 * q:g}") for q in (0.5, 0.99)),
              (f"sum(bandit_requests_waiting{{{SERVER}}})", "waiting")),
        panel("Appends", "Time that the store takes.", "s", THIRD,
              *((quantile(q, "bandit_append_duration_seconds"), f"p{100 * q:g}") for q in (0.5, 0.99))),
        panel("Appends in trouble", "A second.", "ops", THIRD,
              (rate("bandit_append_retries_total", "", SERVER), "sent again"),
              (rate("bandit_append_failures_total", "", SERVER), "given up"),
              (rate("bandit_store_outages_total", "", SERVER), "outages")),
    ],
    "Learning": [
        panel("Freshness", "From an entry of the log until decisions reflect it.", "s", THIRD,
              *((quantile(q, "bandit_freshness_seconds"), f"p{100 * q:g}") for q in (0.5, 0.95))),
        panel("Behind the log", "Of the server that is furthest behind.", "s", THIRD,
              (f"max by (experiment) (bandit_replica_lag_seconds{{{MINE}}})", "{{experiment}}"),
              (f"max by (experiment) (bandit_log_ahead_seconds{{{MINE}}})", "{{experiment}}: log ahead of the clock")),
        panel("To be done", "Entries and arms that decisions do not reflect yet.", "none", THIRD,
              (f"max by (experiment) (bandit_replica_lag_entries{{{MINE}}})", "{{experiment}} entries"),
              (f"max by (experiment) (bandit_refresh_pending_arms{{{MINE}}})", "{{experiment}} arms")),
        panel("Folded", "Entries a second, in every worker.", "ops", THIRD,
              (rate("bandit_folded_entries_total", "instance", SERVER), "{{instance}}")),
        panel("Age of the last checkpoint", "By experiment.", "s", THIRD,
              (f"time() - max by (experiment) (bandit_last_checkpoint_timestamp_seconds{{{MINE}}})", "{{experiment}}")),
        panel("Upkeep", "A minute.", "none", THIRD,
              ("60 * " + rate("bandit_checkpoints_total"), "checkpoints"),
              ("60 * " + rate("bandit_trimmed_entries_total"), "entries trimmed"),
              ("60 * " + rate("bandit_replica_reloads_total"), "loaded anew")),
    ],
    "Memory and clocks": [
        panel("Store", "Bytes.", "bytes", THIRD,
              (f"bandit_store_memory_used_bytes{{{SERVER}}}", "{{instance}} used"),
              (f"bandit_store_memory_limit_bytes{{{SERVER}}} > 0", "{{instance}} limit")),
        panel("Workers", "Resident memory, and models.", "bytes", THIRD,
              (f"bandit_worker_memory_bytes{{{SERVER}}}", "{{instance}} {{worker}}"),
              (f"bandit_model_bytes{{{SERVER}}}", "{{instance}} {{worker}} models")),
        panel("The store's clock", "Ahead of the server's.", "s", THIRD,
              (f"bandit_store_clock_offset_seconds{{{SERVER}}}", "{{instance}}")),
    ],
}  # fmt: skip


def placed() -> list[Any]:
    """All panels, row under row, each with its place and number."""
    found: list[Any] = []
    y = 0
    for title, row in ROWS.items():
        found.append(
            {"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": WIDE, "h": 1}, "collapsed": False}
        )
        x, y = 0, y + 1
        for each in row:
            width, height = each.pop("width"), 4 if each["type"] == "stat" else 8
            if x + width > WIDE:
                x, y = 0, y + height
            found.append(each | {"gridPos": {"x": x, "y": y, "w": width, "h": height}})
            x += width
        y += height
    return [each | {"id": i} for i, each in enumerate(found, 1)]


def variable(name: str, label: str) -> Any:
    """A choice of label values, all by default."""
    query = f"label_values(bandit_{'decisions_total' if name == 'experiment' else 'workers_ready'}, {name})"
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def board() -> Any:
    """The whole board."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "title": "bandit-server", "uid": "bandit-server", "tags": ["bandit-server"], "schemaVersion": 39,
        "editable": True, "refresh": "30s", "time": {"from": "now-6h", "to": "now"}, "timezone": "browser",
        "templating": {"list": [source, variable("job", "Job"), variable("experiment", "Experiment")]},
        "panels": placed(),
    }  # fmt: skip


if __name__ == "__main__":
    Path(__file__).with_suffix(".json").write_text(json.dumps(board(), indent=1) + "\n")
