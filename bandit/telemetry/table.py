"""Every metric, declared once: nothing else can be counted, and everything here is exposed and documented.

To add one: a row here, the page renewed (`test_metrics.py --write`), and in the code that knows of it
`counters.add(NAME, *labels)` (any thread; what is rare), `counters.cell(NAME, *labels)[0] += 1` (the event loop; hot,
the cell kept), `counters.histogram(NAME, *labels).observe(value)` (the event loop) or `counters.set(NAME, value,
*labels)`. `tests/bandit/telemetry/` proves table, exposition and page to be the same.

    unit     in the name: _seconds, _bytes; _total of counters; else things counted
    most     sets of label values that a process keeps; what comes later is counted under "other"
    over     how processes go together: sum, min, max, or `worker`, a label of its own
    lasting  a gauge that counts on when its process has ended (a time stamp, say); counters always do
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

OTHER: Final = "other"  # the label of what is beyond a bound
EXPERIMENTS: Final = 200  # that have labels of their own, in the order in which a worker meets them
ARMS: Final = 20  # arms of an experiment, at most, where decisions are counted by arm
LABEL_MAX: Final = 128  # characters of a label's value; a longer one is `OTHER`

# durations: 0.5 ms to 10 s; a decision takes 1 ms, the patience with a store ends after 4 s
FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
AGES: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metric(NamedTuple):
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    most: int = 1
    over: Literal["sum", "min", "max", "worker"] = "sum"
    lasting: bool = False
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str, most: int = 1) -> Metric:
    return Metric(f"bandit_{name}_total", "counter", text, labels, most)


def _gauge(name: str, over: Literal["sum", "min", "max", "worker"], text: str, *labels: str, most: int = 1) -> Metric:
    return Metric(f"bandit_{name}", "gauge", text, labels, most, over)


def _histogram(name: str, buckets: tuple[float, ...], text: str, *labels: str, most: int = 1) -> Metric:
    return Metric(f"bandit_{name}", "histogram", text, labels, most, buckets=buckets)


_E: Final = EXPERIMENTS + 1
_ROWS: Final = (
    # requests
    _counter("http_requests", "Answered requests.", "route", "method", "code", most=600),
    _histogram(
        "http_request_duration_seconds", FAST, "From a whole request to its answer.", "route", "method", most=120
    ),
    _counter(
        "problems", "Refusals by whatever route, those of single items of a batch too.",
        "experiment", "operation", "code", most=2000,
    ),
    _counter("bugs", "Requests and items of batches that failed by an error of the server itself."),
    _counter("sheds", "Requests refused because too many came.", "reason", most=20),
    _gauge("requests_waiting", "sum", "Requests that wait for a micro-batch."),
    # decisions
    _counter("decisions", "Decisions answered; new and deferred ones were logged.", "experiment", "kind", most=6 * _E),
    _counter("decisions_explored", "New decisions that showed first what was less likely.", "experiment", most=_E),
    _counter("decisions_even", "New decisions whose eligible arms were all as likely.", "experiment", most=_E),
    _counter("slice_decisions", "New decisions, by the slice that made them.", "experiment", "slice", most=1000),
    _counter("arm_decisions", "Times an arm was shown, of experiments with few arms.", "experiment", "arm", most=2000),
    Metric(
        "bandit_last_decision_timestamp_seconds", "gauge", "When the newest decision was logged.",
        ("experiment",), _E, "max", True,
    ),
    _counter("activations", "Activations, by what became of them.", "experiment", "outcome", most=4 * _E),
    # feedback
    _counter(
        "feedback", "Events judged, by what became of them; an accepted one was logged.",
        "experiment", "reward", "outcome", most=2000,
    ),
    _counter("feedback_clipped", "Accepted events that were cut to the range.", "experiment", "reward", most=1000),
    _counter("refunds", "Accepted events that took back an earlier one.", "experiment", "reward", most=1000),
    _counter("reward_credited", "Rewards added, in reward units.", "experiment", "reward", most=1000),
    _counter("reward_taken_back", "Rewards taken back, in reward units.", "experiment", "reward", most=1000),
    Metric(
        "bandit_last_reward_timestamp_seconds", "gauge", "When the newest reward was accepted.",
        ("experiment",), _E, "max", True,
    ),
    # appending
    _histogram("tick_requests", SIZES, "Requests in one micro-batch."),
    _histogram("append_duration_seconds", FAST, "From an append's first try to its reply."),
    _counter("append_retries", "Appends sent again because the store did not answer."),
    _counter("append_failures", "Appends given up: their requests got 503."),
    _counter("gaps", "Times acknowledged writes had vanished from the store.", "experiment", most=_E),
    # the store
    _gauge("store_up", "min", "1 where the store answers and takes writes, else 0."),
    _gauge("store_memory_used_bytes", "max", "Memory that the store uses."),
    _gauge("store_memory_limit_bytes", "max", "Memory that the store may use; 0: no limit."),
    _gauge("store_clock_offset_seconds", "max", "How far the store's clock is ahead of the server's."),
    _counter("store_outages", "Times the store went away, as each worker saw it."),
    # the replica
    _gauge("replica_lag_seconds", "max", "Since the log was last read to its end.", "experiment", most=_E),
    _gauge(
        "replica_lag_entries", "max", "Entries read that decisions do not reflect yet.", "experiment", most=_E
    ),
    _gauge("refresh_pending_arms", "max", "Arms that wait for their scoring data.", "experiment", most=_E),
    _histogram("freshness_seconds", AGES, "From an entry's time in the log until decisions reflect it."),
    _counter("folded_entries", "Entries of the log that were folded, in every worker."),
    _counter("replica_reloads", "Times an experiment was loaded anew.", "experiment", most=_E),
    _gauge("replica_failed", "max", "1 where an experiment cannot be served.", "experiment", most=_E),
    _counter("checkpoints", "Passes of checkpoints that were completed.", "experiment", most=_E),
    Metric(
        "bandit_last_checkpoint_timestamp_seconds", "gauge", "When a pass of checkpoints was last completed.",
        ("experiment",), _E, "max", True,
    ),
    _counter("trimmed_entries", "Entries that left the log.", "experiment", most=_E),
    _gauge(
        "last_archive_timestamp_seconds", "max", "When an archive last took what it had to; none where there is none.",
        "experiment", most=_E,
    ),
    _gauge("log_ahead_seconds", "max", "How far a log's end is ahead of the clock.", "experiment", most=_E),
    # access (what was refused: bandit_problems_total of the codes unauthenticated, forbidden and rate_limited)
    _gauge("key_expiry_timestamp_seconds", "min", "When the next API key expires that no other replaces; none: never."),
    # processes
    _gauge("workers", "max", "Workers that there should be."),
    _gauge("workers_ready", "sum", "Workers that can decide."),
    _gauge("experiments", "max", "Experiments that are served."),
    _gauge("model_bytes", "worker", "Memory that all models take."),
    _gauge("worker_memory_bytes", "worker", "Resident memory of the process."),
    _gauge("worker_start_timestamp_seconds", "worker", "When the process started."),
    _gauge("build_info", "max", "1, with the version as its label.", "version", most=2),
)  # fmt: skip
METRICS: Final = {metric.name: metric for metric in _ROWS}
