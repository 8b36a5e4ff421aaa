"""One record is all that an estimator takes: CONTRIBUTING.md says so, and these tests add one while they run."""

from pathlib import Path

import pytest
from simulator_cli import CSV, rows, run, write_log

from simulator.environments.named import NAMES
from simulator.logs.loaders import load
from simulator.ope import estimators as of
from simulator.ope.evaluate import evaluate
from simulator.ope.evaluate_lists import ESTIMATORS as OF_LISTS
from simulator.ope.stream import evaluate_stream
from simulator.ope.targets import uniform
from simulator.ope.terms import ESTIMATORS, Estimator
from simulator.policies.specs import KINDS
from simulator.reporting import report

HALF = Estimator(
    "half of DR",
    "A made-up estimator that halves what DR says.",
    lambda problem: of.mean(0.5 * (problem.model.v + problem.w * (problem.log.reward - problem.model.q))),
    "https://example.org/half",
    model="shared",
    biased=True,
    notes=lambda problem: [f"half of {len(problem.log)} rows"],
)


@pytest.fixture
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "half-dr", HALF)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log in a file."""
    return write_log(tmp_path / "log.csv")


@pytest.mark.usefixtures("_added")
def test_a_new_estimator_is_evaluated_in_memory_and_in_pieces(path: Path) -> None:
    """Half of DR's value, called biased, with its own note and that of its model; in pieces the model is fitted too."""
    log = load(path, "csv", arm="arm", reward="click", propensity="p")
    for found in (
        evaluate(log, uniform(log)),
        evaluate_stream(lambda: iter([log]), lambda first, span: uniform, q_fit="past"),
        evaluate_stream(lambda: iter([log]), lambda first, span: uniform, estimators=["dr", "half-dr"], q_fit="past"),
    ):
        by = {row.estimator: row for row in found}
        assert by["half-dr"].value == pytest.approx(by["dr"].value / 2)
        assert by["half-dr"].verdict == "biased"
        assert "half of 1200 rows" in by["half-dr"].note
    (alone,) = evaluate_stream(lambda: iter([log]), lambda first, span: uniform, estimators=["half-dr"], q_fit="past")
    assert alone.value == by["half-dr"].value


@pytest.mark.usefixtures("_added")
def test_a_new_estimator_can_be_asked_for_and_stands_in_the_help(path: Path) -> None:
    """The command takes its name, help lists it, and the refusal of another name does."""
    (row,) = rows("evaluate", path, *CSV, "--estimator", "half-dr")
    assert row["estimator"] == "half-dr"
    for command in ("evaluate", "report", "select"):
        assert "half-dr" in run(command, "--help")[1]
    assert "half-dr" in run("evaluate", path, *CSV, "--estimator", "doubly")[2]


@pytest.mark.usefixtures("_added")
def test_a_new_estimator_stands_in_the_report(path: Path, tmp_path: Path) -> None:
    """By its label in the figure and the table, and with its sentence and its paper in the guide."""
    log = load(path, "csv", arm="arm", reward="click", propensity="p")
    page = report(log, {"uniform": uniform(log)}, tmp_path / "page.html").read_text()
    values, guide = page.partition('id="guide"')[::2]
    assert values.count(HALF.label) >= 2
    assert {HALF.label, HALF.meaning, HALF.paper} == {
        text for text in (HALF.label, HALF.meaning, HALF.paper) if text in guide
    }


def test_help_lists_what_there_is() -> None:
    """Every estimator, those of lists where lists can be valued, every policy and environment, and nothing else."""
    told = " ".join(run("evaluate", "--help")[1].split()).replace("- ", "-")
    listed = told.partition("An estimator: ")[2].partition(". Repeatable")[0]
    assert listed == f"{', '.join(ESTIMATORS)}; with --lists: {', '.join(OF_LISTS)}"
    assert "with --lists" not in run("report", "--help")[1]
    told = " ".join(run("run", "--help")[1].split()).replace("- ", "-")
    assert f"A policy: {', '.join(name for name in KINDS if name != 'document')} or a document" in told
    assert f"An environment: {', '.join(NAMES)};" in told
