"""Cleaning: each fault drops its rows and is counted, and an error names the first row where none is left."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulator.logs.cleaning import Rules, clean
from simulator.logs.contexts import LogError
from simulator.logs.loaders import load
from simulator.logs.storage import whole
from simulator.logs.table import COLUMNS, Eligible, Header, Row, Shown, Table, batch_of, rows_of

COLUMNS_HERE = tuple(name for name in Row.__struct_fields__ if name in COLUMNS)


def row(name: str | None = None, p: float | None = 0.5, reward: float | None = 1.0, **more: Any) -> Row:
    """A row of arm a that has no fault, but for what is given."""
    given: dict[str, Any] = {"shown": [Shown("a", p)], "time": datetime(2024, 1, 1, tzinfo=UTC)} | more
    return Row(decision_id=name, reward=reward, **given)


def cleaned(
    *rows: Row, rules: Rules | None = None, size: int = 2, probability: Any = "shown"
) -> tuple[list[str | None], dict[str, int]]:
    """(decision ids that are left, counts), read in batches of `size`."""
    header = Header(arms=("a", "b"), columns=COLUMNS_HERE, probability=probability)
    batches = (batch_of(header, rows[i : i + size]) for i in range(0, len(rows), size))
    table = clean(Table(header, batches, Counter()), rules)
    left = rows_of(whole(table.batches, header))
    return [each.decision_id for each in left], dict(table.cleaning)


FAULTS = {
    "no arm": row("bad", shown=[]),
    "no reward": row("bad", reward=None),
    "no propensity": row("bad", p=None),
    "propensity not above 0": row("bad", p=0.0),
    "propensity above 1": row("bad", p=1.5),
    "weight not above 0": row("bad", weight=0.0),
    "a probability not in [0, 1]": row("bad", eligible=[Eligible("a", 0.5), Eligible("b", -0.5)]),
    "probabilities that do not sum to 1": row("bad", eligible=[Eligible("a", 0.5), Eligible("b", 0.4)]),
    "propensity unlike the arm's own probability": row("bad", eligible=[Eligible("a", 0.4), Eligible("b", 0.6)]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_row_is_dropped_and_counted(fault: str) -> None:
    """Of three rows the one with the fault goes, under the fault's name."""
    assert cleaned(row("1"), FAULTS[fault], row("2"), rules=Rules(faulty=1)) == (
        ["1", "2"],
        {f"rows dropped: {fault}": 1},
    )


def test_a_table_that_promises_all_probabilities_has_no_row_without() -> None:
    """Where only the propensity is promised, unknown probabilities are no fault."""
    known, unknown = ([Eligible("a", 0.5), Eligible("b", p)] for p in (0.5, None))
    rows = [row("1", eligible=known), row("2", eligible=unknown), row("3")]
    assert cleaned(*rows) == (["1", "2", "3"], {})
    assert cleaned(*rows, probability="every") == (["1"], {"rows dropped: without the probability of every arm": 2})


def test_faultless_rows_all_stay() -> None:
    """A propensity rounded to float32, one of 1, a probability of 0 and a negative reward are no faults."""
    fine = [row("1", p=1.0000001), row("2", p=1.0), row("3", reward=-5.0)]
    fine += [row("4", eligible=[Eligible("a", 0.50001), Eligible("b", 0.5), Eligible("c", 0.0)])]
    assert cleaned(*fine) == (["1", "2", "3", "4"], {})


def test_a_repeated_decision_is_dropped_across_batches() -> None:
    """The first row of an id counts; positions of one list and rows without an id are no repetitions."""
    rows = [row("1"), row("2"), row("3"), row("1"), row("2", position=1), row(), row()]
    left, counts = cleaned(*rows)
    assert left == ["1", "2", "3", "2", None, None]
    assert counts == {"rows dropped: decision that came before": 1}
    assert cleaned(*rows, rules=Rules(duplicates=False)) == ([each.decision_id for each in rows], {})


def test_a_faulty_row_does_not_hide_its_repetition() -> None:
    """A decision whose first row cannot be used is kept by its second."""
    left, counts = cleaned(row("1", p=0.0), row("1"), size=1)
    assert left == ["1"]
    assert counts == {"rows dropped: propensity not above 0": 1}


def test_rewards_out_of_a_given_range_are_dropped() -> None:
    """The ends belong to the range."""
    rows = [row(str(r), reward=r) for r in (-0.1, 0.0, 1.0, 1.1)]
    left, counts = cleaned(*rows, rules=Rules(reward_range=(0, 1)))
    assert (left, counts) == (["0.0", "1.0"], {"rows dropped: reward outside [0, 1]": 2})


def test_rows_that_were_never_shown_pass() -> None:
    """They are no impressions: a conversion keeps them, and no rule is meant for them."""
    assert cleaned(row("1"), row("2", p=0.0, skipped=True)) == (["1", "2"], {})


def test_a_row_counts_under_its_first_fault_only() -> None:
    """Counts add up to the rows dropped."""
    assert cleaned(row("1"), row("2", p=0.0, reward=None), rules=Rules(faulty=1))[1] == {"rows dropped: no reward": 1}


def test_an_error_names_the_first_row_of_each_fault_where_none_is_left() -> None:
    """What was expected, what came, in which row and decision."""
    with pytest.raises(LogError) as found:
        cleaned(row("x", p=0.0), row("y", p=-1.0), row("z", reward=None))
    assert str(found.value) == (
        "expected at least one usable row, got none of 3"
        "; rows dropped: propensity not above 0: first in row 1 (decision 'x'): expected a propensity in (0, 1], got 0"
        "; rows dropped: no reward: first in row 3 (decision 'z'): expected a number as reward, got nothing"
    )


def test_an_empty_log_is_an_error() -> None:
    """Nothing can be said of no rows."""
    with pytest.raises(LogError, match="got none of 0"):
        cleaned()


def test_arms_of_lines_are_those_of_rows_that_are_kept(tmp_path: Path) -> None:
    """A total of all without a propensity is no arm, which would make 1 / 2 of two arms something else than uniform."""
    path = tmp_path / "log.jsonl"
    rows = [row(str(k), shown=[Shown("ab"[k % 2], 0.5)]) for k in range(8)]
    total = row("9", shown=[Shown("Total", None)])
    never = row("11", shown=[Shown("c", 0.5)], skipped=True)
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in [*rows, total, never]))
    log = load(path, "table")
    assert log.arms == ("a", "b", "c")
    assert log.cleaning["arms left out, shown only in rows that are dropped: 'Total'"] == 1
