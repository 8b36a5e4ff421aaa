"""The demo: its arithmetic by hand on a data set of four visitors, its server as a process, and one whole small run."""

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bandit.commands import demo
from bandit.commands.demo import show
from bandit.commands.demo.child import ChildError, Verified, serving
from bandit.commands.demo.results import Log, Tally, baselines, checks, moving_mean, read_log, recent
from simulator.environments.datasets import FullInformation

TOY = FullInformation(
    name="toy",
    arms=("a", "b"),
    features=({"name": "f", "type": "boolean"},),
    columns=np.array([[0.0], [1.0], [0.0], [1.0]]),
    reward=np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]),
)


def decision(name: str, arm: str) -> bytes:
    """One exported decision, with fields that the demo skips."""
    row = {"type": "decision", "decision_id": name, "arms": [{"arm": arm, "propensity": 0.5}], "context": {"f": True}}
    return json.dumps({**row, "user": None, "position": "1-0"}).encode()


def click(name: str, credited: float = 1) -> bytes:
    """One exported feedback."""
    return json.dumps({"type": "feedback", "decision_id": name, "event": "click", "credited": credited}).encode()


# Visitors 2, 0, 3, 1 were shown a, b, a, b and earned 1, 0, 1, 1: in log order, not in that of the data.
SHOWN = [decision("r-2", "a"), decision("r-0", "b"), decision("r-3", "a"), decision("r-1", "b")]
ROWS = [b'{"type": "experiment", "version": 1}', *SHOWN, click("r-2"), click("r-3"), click("r-1")]


def tally_of_rows() -> Tally:
    """What the sender of ROWS knows."""
    tally = Tally.of(4, "r", start=100.0)
    for visitor, reward, position in [(2, 1.0, "5-0"), (0, 0.0, "5-0"), (3, 1.0, "5-0"), (1, 1.0, "9-0")]:
        tally.add(visitor, reward, position)
    tally.clicks = 3
    return tally


def console() -> tuple[Console, io.StringIO]:
    """A console that is no terminal, and what is printed on it."""
    out = io.StringIO()
    return Console(file=out, width=100, highlight=False), out


def test_results_come_from_the_log_in_its_order() -> None:
    """Visitors, arms and credited rewards by hand from the rows above."""
    log = read_log(ROWS, TOY, "r")
    assert log.visitors.tolist() == [2, 0, 3, 1]
    assert log.shown.tolist() == [0, 1, 0, 1]
    assert log.credited.tolist() == [1.0, 0.0, 1.0, 1.0]
    assert (log.feedback, log.earlier) == (3, 0)


def test_decisions_of_earlier_runs_are_counted_apart() -> None:
    """A directory used again holds other runs' visitors: none of theirs is taken for ours."""
    log = read_log([decision("q-1", "a"), click("q-1"), *ROWS], TOY, "r")
    assert (len(log.visitors), log.feedback, log.earlier) == (4, 3, 1)


def test_a_sound_log_passes_every_check() -> None:
    """The rows above are what the tally says was sent."""
    assert all(check.holds for check in checks(read_log(ROWS, TOY, "r"), tally_of_rows(), TOY))


@pytest.mark.parametrize(
    ("rows", "failing"),
    [
        (ROWS[:-1], {"feedback in the log", "reward credited", "decisions credited other"}),
        ([*ROWS, click("r-1")], {"feedback in the log", "reward credited", "decisions credited other"}),
        ([*ROWS, SHOWN[1]], {"decisions in the log"}),
        ([*ROWS[:-1], click("r-0")], {"decisions credited other"}),
        ([*ROWS[:-1], click("r-1", 0.5)], {"reward credited", "decisions credited other"}),
    ],
    ids=["click lost", "click counted twice", "decision logged twice", "click at the wrong decision", "half credited"],
)
def test_a_faulty_log_fails_the_checks_that_it_should(rows: list[bytes], failing: set[str]) -> None:
    """Each fault that a server could make is planted once."""
    found = checks(read_log(rows, TOY, "r"), tally_of_rows(), TOY)
    failed = {check.claim for check in found if not check.holds}
    assert len(failed) == len(failing)
    assert all(any(claim.startswith(start) for claim in failed) for start in failing)


def test_baselines_are_exact_and_the_best_is_of_the_visitors_sent() -> None:
    """Uniform earns a half of every visitor; a is best of all four, b of visitor 1 alone."""
    known = baselines(TOY, np.arange(4))
    assert known.uniform.tolist() == [0.5] * 4
    assert (known.area, known.fixed.tolist()) == ("a", [1.0, 0.0, 1.0, 1.0])
    assert baselines(TOY, np.array([1])).area == "b"


def test_moving_mean_is_the_mean_of_each_window() -> None:
    """Against the mean of each slice, at the start over what there is; from a tenth of the window on."""
    values = np.random.default_rng(0).random(50)
    rounds, means = moving_mean(values, window=20)
    assert rounds.tolist() == list(range(2, 51))
    by_slices = [values[max(0, int(r) - 20) : int(r)].mean() for r in rounds]
    assert means == pytest.approx(by_slices, abs=1e-12)  # sums of 50 numbers below 1, in another order


def test_means_of_few_or_no_rounds_are_defined() -> None:
    """Before anyone came there is no mean, and no warning either; a short run has one over what it has."""
    assert np.isnan(recent(np.array([]), 3))
    assert recent(np.array([1.0, 2.0]), 3) == 1.5
    assert moving_mean(np.array([1.0, 0.0]), window=2000)[1].tolist() == [0.5]


def test_rounds_per_refresh_counts_states_of_the_model() -> None:
    """Four rounds were decided by two states: those at log positions 5-0 and 9-0."""
    assert tally_of_rows().rounds_per_refresh() == 2.0


def test_the_table_shows_each_rule_over_all_and_over_the_last_rounds() -> None:
    """Ours 3/4 and 2/2; a: visitors 2, 0, 3 of 2, 0, 3, 1, and 1/2 of the last two; uniform always 1/2."""
    tally, (printed, out) = tally_of_rows(), console()
    printed.print(show.table(show.rules(tally.reward, tally.seen, baselines(TOY, tally.seen)), last=2))
    numbers = re.findall(r"│ (.+?) +│ +(\d\.\d+) │ +(\d\.\d+) │", out.getvalue())
    assert numbers == [
        ("bandit-server", "0.7500", "1.0000"),
        ("best fixed area, a", "0.7500", "0.5000"),
        ("uniform", "0.5000", "0.5000"),
    ]


def test_the_progress_line_says_how_far_and_how_fast() -> None:
    """Four decisions in two seconds."""
    line = show.line(tally_of_rows(), baselines(TOY, np.arange(4)), now=102.0)
    assert "4 of 4 visitors" in line
    assert "ours 0.7500, best fixed 0.7500, uniform 0.5000" in line
    assert "2 decisions/s, one refresh of the model every 2 rounds" in line


def test_a_run_without_terminal_prints_few_plain_lines() -> None:
    """At most one line for each tenth, however often it is refreshed, and no control characters."""
    tally, (printed, out) = Tally.of(4, "r", start=0.0), console()
    with show.progress(printed, tally, baselines(TOY, np.arange(4))) as refresh:
        for visitor in range(4):
            refresh()
            tally.add(visitor, 0.0, None)
            refresh()
    assert [line.split(";")[0].strip() for line in out.getvalue().splitlines()] == [
        f"{i} of 4 visitors" for i in range(1, 5)
    ]
    assert "\x1b" not in out.getvalue()


def test_curves_are_drawn_as_a_picture_and_as_text(tmp_path: Path) -> None:
    """A PNG that says where it is, and the same in characters, each rule with its own sign."""
    printed, out = console()
    log = Log(np.tile(np.arange(4), 30), np.zeros(120, np.int64), np.tile([1.0, 0, 1, 1], 30), 90, 0)
    show.curves(printed, log, baselines(TOY, np.arange(4)), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "curve.png") in out.getvalue()
    assert re.search(r"█ bandit-server +- best fixed area, a +\. uniform", out.getvalue())
    assert "\x1b" not in out.getvalue()


def test_a_failed_check_is_shouted_with_its_numbers() -> None:
    """Whoever reads the last lines must not miss it."""
    printed, out = console()
    show.checks(
        printed, checks(read_log(ROWS[:-1], TOY, "r"), tally_of_rows(), TOY), Verified(False, '{"equal":false}')
    )
    assert "FAILED feedback in the log is what was sent: 3 expected, 2 found" in out.getvalue()
    assert "ok decisions in the log" in out.getvalue()
    assert out.getvalue().rstrip().endswith('{"equal":false}')


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Rather than an ImportError from the middle: what is missing, and what to install."""
    monkeypatch.setattr(demo, "NEEDED", ("json", "no_such_plotter"))
    assert demo.run() == 1
    assert "needs no_such_plotter: pip install 'bandit-server[simulator,embedded]'" in capsys.readouterr().err


def test_a_server_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    """Its own words are the best explanation: here, of a number of workers that is none."""
    with pytest.raises(ChildError, match=r"(?s)the server ended with \d+:.*workers"), serving(tmp_path, -1, 0):
        pass
    assert not any(path.name.startswith(".demo") for path in tmp_path.iterdir())


def run_demo(*options: str, cwd: Path) -> "subprocess.Popen[str]":
    """The command in a process of its own."""
    command = [sys.executable, "-m", "bandit", "demo", *options]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished_demo(*options: str, cwd: Path) -> str:
    """What a demo that went well printed."""
    with run_demo(*options, cwd=cwd) as process:
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    return output


def test_a_small_demo_runs_from_start_to_proof_and_again(tmp_path: Path) -> None:
    """600 visitors through a real server: every check holds, the state is proven, the picture is where it says.

    A second run on the same directory tells its own decisions from those it finds, and proves all of them.
    """
    first, again = (finished_demo("--visitors", n, "--data-dir", "data", cwd=tmp_path) for n in ("600", "50"))
    assert "decisions in the log are those asked for: 600 expected, 600 found" in first
    assert "FAILED" not in first + again
    assert "The log also holds 600 decisions made before" in again
    assert '"decisions":650' in again
    assert (tmp_path / "data" / "msweb-learning-curve.png").exists()
    assert not (tmp_path / "data" / "server.json").exists()


def test_ctrl_c_ends_a_demo_that_keeps_serving_and_its_server(tmp_path: Path) -> None:
    """The server ends in order: its record, which stands as long as it serves, is gone."""
    options = ("--visitors", "50", "--keep-serving", "--data-dir", str(tmp_path / "data"))
    with run_demo(*options, cwd=tmp_path) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Serving at"):
                assert (tmp_path / "data" / "server.json").exists()
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, "".join(said)
    assert not (tmp_path / "data" / "server.json").exists()
