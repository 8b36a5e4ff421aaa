"""What a process counts: every label set bounded, snapshots that add up, and a successor that goes on from them."""

import threading

import pytest

from bandit.process.slots import HALF
from bandit.telemetry.counters import Counters, merge, pack, unpack
from bandit.telemetry.exposition import together
from bandit.telemetry.table import ARMS, EXPERIMENTS, LABEL_MAX, METRICS, OTHER


def test_what_is_not_declared_cannot_be_counted() -> None:
    """No metric beside the table, and no other labels than it says."""
    counters = Counters()
    with pytest.raises(KeyError):
        counters.add("bandit_unheard_of_total")
    with pytest.raises(ValueError, match="has the labels"):
        counters.add("bandit_gaps_total")


def test_a_histogram_counts_a_bound_within_its_bucket() -> None:
    """A value equal to a bound is at most that: Prometheus' `le`. The last bucket has no bound."""
    counters, name = Counters(), "bandit_tick_requests"
    histogram = counters.histogram(name)
    for value in (1, 2, 3, 256, 257):
        histogram.observe(value)
    numbers = counters.snapshot()[name][()]
    assert numbers == [1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 519]


def test_label_sets_are_bounded_and_nothing_is_lost_beyond() -> None:
    """Experiments beyond the bound share one label, and so do label sets beyond a metric's own: sums stay right."""
    counters = Counters()
    for i in range(EXPERIMENTS + 50):
        counters.add("bandit_gaps_total", f"e{i}")
    gaps = counters.snapshot()["bandit_gaps_total"]
    assert len(gaps) == EXPERIMENTS + 1
    assert (gaps[OTHER,][0], sum(cell[0] for cell in gaps.values())) == (50, EXPERIMENTS + 50)
    most = METRICS["bandit_sheds_total"].most
    for i in range(most + 7):
        counters.add("bandit_sheds_total", f"r{i}")
    sheds = counters.snapshot()["bandit_sheds_total"]
    assert (len(sheds), sheds[OTHER,][0]) == (most, 8)
    counters.set("bandit_build_info", 1, "x" * (LABEL_MAX + 1))
    assert list(counters.snapshot()["bandit_build_info"]) == [(OTHER,)]


def test_an_experiment_has_its_label_in_every_metric_or_in_none() -> None:
    """The last one that has a place, too, whichever metric the others filled first."""
    counters = Counters()
    for i in range(EXPERIMENTS + 1):
        counters.experiment(f"e{i}")
    for i in reversed(range(EXPERIMENTS + 1)):
        counters.add("bandit_gaps_total", f"e{i}")
    assert set(counters.snapshot()["bandit_gaps_total"]) == {(f"e{i}",) for i in range(EXPERIMENTS)} | {(OTHER,)}


def test_an_experiment_is_shown_by_its_name_only_where_every_process_names_it() -> None:
    """Two that met more than may be named, in different orders: no number under a name is a part of it."""
    workers = [Counters(), Counters()]
    names = [f"e{i}" for i in range(EXPERIMENTS + 60)]
    for counters, order in zip(workers, (names, names[::-1]), strict=True):
        for name in order:
            counters.add("bandit_decisions_total", name, "new", by=3)
            counters.add("bandit_gaps_total", name)
    few = Counters()  # of a process that has met two
    few.add("bandit_gaps_total", names[0], by=5)
    few.add("bandit_gaps_total", names[100], by=7)
    found = together((str(i), True, each.snapshot()) for i, each in enumerate((*workers, few)))
    shared = names[60:EXPERIMENTS]
    assert found["bandit_decisions_total"] == {key: [6] for key in ((name, "new") for name in shared)} | {
        (OTHER, "new"): [6 * 120]
    }
    gaps = {key: [2] for key in ((name,) for name in shared)} | {(names[100],): [9], (OTHER,): [2 * 120 + 5]}
    assert found["bandit_gaps_total"] == gaps


def test_what_is_gone_gives_back_its_place() -> None:
    """Also what came from a process that has ended; what is no experiment has none, and those that stay keep theirs."""
    counters = Counters()
    counters.load({"bandit_gaps_total": {("old",): [3.0]}})
    counters.add("bandit_problems_total", "", "other", "not_found")
    for i in range(EXPERIMENTS - 1):
        counters.cell("bandit_decisions_total", f"e{i}", "new")[0] += 1
    counters.cell("bandit_decisions_total", "late", "new")[0] += 1
    counters.keep({"e0", "e1", "late"})
    found = counters.snapshot()
    assert found["bandit_gaps_total"] == {}
    assert found["bandit_problems_total"] == {("", "other", "not_found"): [1]}
    assert found["bandit_decisions_total"] == {("e0", "new"): [1], ("e1", "new"): [1], (OTHER, "new"): [1]}
    counters.cell("bandit_decisions_total", "next", "new")[0] += 1
    assert counters.snapshot()["bandit_decisions_total"]["next", "new"] == [1]


def test_all_that_can_be_counted_fits_a_slot() -> None:
    """Every metric with as many label sets as it may have, each as long as it may be, in UTF-8, and counted twice
    over: by the event loop and by the other threads.
    """
    for metric in METRICS.values():
        assert metric.most <= (EXPERIMENTS + 1) * ARMS or not metric.labels
    size = 0
    for metric in METRICS.values():
        numbers = len(metric.buckets) + 2 if metric.buckets else 1
        names = [64 if label == "experiment" else 4 * LABEL_MAX for label in metric.labels]
        bounded = {"route": 80, "method": 8, "code": 32, "outcome": 16, "kind": 16, "operation": 24, "reason": 32}
        names = [bounded.get(label, size) for label, size in zip(metric.labels, names, strict=True)]
        size += 2 * metric.most * (sum(names) + 5 * len(names) + 9 * numbers + 10)
    assert size < HALF


def test_threads_lose_no_addition() -> None:
    """Others than the event loop add under a lock."""
    counters = Counters()
    threads = [
        threading.Thread(target=lambda: [counters.add("bandit_store_outages_total") for _ in range(5000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot()["bandit_store_outages_total"][()] == [20_000]


def counted(gaps: int, reward_at: float, waiting: float) -> Counters:
    """A process that has counted this."""
    counters = Counters()
    counters.cell("bandit_gaps_total", "e")[0] += gaps
    counters.add("bandit_gaps_total", "e", by=1)
    counters.set("bandit_last_reward_timestamp_seconds", reward_at, "e")
    counters.set("bandit_requests_waiting", waiting)
    counters.set("bandit_store_up", waiting < 5)
    counters.set("bandit_worker_memory_bytes", 100 * gaps)
    counters.histogram("bandit_tick_requests").observe(gaps)
    return counters


def test_processes_go_together_each_metric_in_its_own_way() -> None:
    """Counters and histograms are added, time stamps the newest, `up` the smallest, memory each by its worker; the
    gauges of a process that has ended are gone, but not its counters and time stamps.
    """
    parts = [
        ("0", True, counted(1, 50, 2).snapshot()),
        ("1", True, unpack(pack(counted(2, 70, 9).snapshot()))),
        ("2", False, counted(4, 90, 100).snapshot()),
    ]
    found = together(parts)
    assert found["bandit_gaps_total"] == {("e",): [1 + 2 + 4 + 3]}
    assert found["bandit_last_reward_timestamp_seconds"] == {("e",): [90]}
    assert found["bandit_requests_waiting"] == {(): [11]}
    assert found["bandit_store_up"] == {(): [0]}
    assert found["bandit_worker_memory_bytes"] == {("0",): [100], ("1",): [200]}
    assert found["bandit_tick_requests"][()][-1] == 7


def test_a_successor_goes_on_from_what_was_counted() -> None:
    """Counters and time stamps, through the bytes of a slot; gauges begin anew."""
    before = counted(3, 60, 4)
    after = Counters()
    after.load(unpack(pack(before.snapshot())))
    after.cell("bandit_gaps_total", "e")[0] += 2
    found = after.snapshot()
    assert found["bandit_gaps_total"] == {("e",): [6]}
    assert found["bandit_last_reward_timestamp_seconds"] == {("e",): [60]}
    assert found["bandit_requests_waiting"] == {}
    assert found["bandit_tick_requests"][()] == before.snapshot()["bandit_tick_requests"][()]


def test_numbers_of_another_version_do_no_harm() -> None:
    """An unknown metric is passed over, and a histogram of other buckets is not added to ours."""
    counters = counted(1, 1, 1)
    mine = counters.snapshot()
    merge(mine, {"bandit_from_tomorrow_total": {(): [1.0]}, "bandit_tick_requests": {(): [1.0, 2.0]}})
    assert "bandit_from_tomorrow_total" not in mine
    assert mine["bandit_tick_requests"] == counters.snapshot()["bandit_tick_requests"]
    counters.load({"bandit_from_tomorrow_total": {(): [1.0]}, "bandit_tick_requests": {(): [1.0, 2.0]}})
    assert counters.snapshot()["bandit_tick_requests"] == mine["bandit_tick_requests"]
