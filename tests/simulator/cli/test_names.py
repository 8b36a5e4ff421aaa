"""A name is text, wherever it is shown: no markup, no formula, no escape of a terminal, no turn of the line."""

import csv
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from logs import log_of
from rich.console import Console
from simulator_cli import run

from bandit.commands.demo import show
from bandit.commands.demo.child import Verified
from bandit.commands.demo.results import Baselines, Log
from bandit.errors import printable
from simulator.cli import output
from simulator.reporting import report
from simulator.reporting.figures import Mark, draw_learning, drawing, finished, forest
from simulator.studies.across_seeds import Band

NAMES = (
    "fixed:a",  # markup of rich for an emoji
    "banner[en]",
    "banner[de]",
    "[/x]",
    "[bold red]",
    ":warning:",
    "$x^2$",
    r"\$5",
    "_hidden",
    "<b>&amp;",
    'id="x" url(#z)',
    "=1+2",
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "\u202eabc",
    "\x9b31m",
)
SHOWN = [printable(name) for name in NAMES]
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")


def texts(svg: str) -> list[str]:
    """The words of a drawing."""
    return [html.unescape(each) for each in TEXT.findall(svg)]


def test_a_table_of_the_terminal_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """In cells, as a column, as its title and in notes: what rich would take for markup, and escapes in writing."""
    for name, expected in zip(NAMES, SHOWN, strict=True):
        row = {"estimator": name, "value": 1.0, "low": 0.0, "high": 2.0, "verdict": name, "n": 5, "n_eff": 5.0}
        output.print_evaluation(name, [{**row, "max_weight": 1.0, "note": name}])
        output.print_rows([{name: name}], as_json=False)
        said = capsys.readouterr().out
        assert said.count(expected) == 6  # title, two cells and a note; a column and its cell
        assert all(letter.isprintable() or letter == "\n" for letter in said)


def test_arms_of_a_log_are_told_apart_by_a_command(tmp_path: Path) -> None:
    """`select` of targets whose names rich would swallow: one row for each, with its whole name."""
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "click", "p"])
        writer.writerows([name, i % 2, 0.25] for i in range(400) for name in [("fixed", "[en]", "[de]", "[/x]")[i % 4]])
    wanted = ["fixed:fixed", "fixed:[en]", "fixed:[de]", "fixed:[/x]"]
    roles = ["--format", "csv", "--arm", "arm", "--reward", "click", "--propensity", "p"]
    code, out, err = run("select", path, *roles, *(part for name in wanted for part in ("--target", name)))
    assert code == 0, err
    assert all(out.count(name) == 1 for name in wanted)


def test_a_line_beside_the_answer_has_no_escapes(tmp_path: Path) -> None:
    """Nor has what a command says of its failure: one line, whatever is in a name."""
    code, out, err = run("evaluate", tmp_path / "\x1b[31m\nx", "--format", "table")
    assert (code, out) == (1, "")
    assert err.rstrip("\n").isprintable()


def test_drawings_show_names_as_they_are() -> None:
    """No mathematics between dollar signs, and no attribute of the drawing's own between quotes."""
    marks = [Mark(name, 0.5, 0.4, 0.6, "interval") for name in NAMES]
    with drawing():
        picture = finished(forest({"": marks}, "value", None), "values", "words", png=False)
    assert set(SHOWN) <= set(texts(picture.svg))
    assert set(SHOWN) <= set(texts(picture.inline))


def test_a_legend_leaves_no_name_out() -> None:
    """matplotlib keeps what begins with _ to itself."""
    bands = [Band(name, [1, 2], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3]) for name in NAMES]
    with drawing():
        picture = finished(draw_learning(bands, {"best": 1.0, "uniform": 0.0}), "learning", "words", png=False)
    assert set(SHOWN) <= set(texts(picture.inline))


def test_a_page_shows_names_as_they_are(tmp_path: Path) -> None:
    """Every arm in the table of arms, every target by its name, and no letter that nobody sees."""
    n, k = 480, len(NAMES)
    log = log_of(np.full((n, k), 1 / k), np.arange(n) % k, (np.arange(n) % 3 == 0).astype(float))
    uniform = np.full((n, k), 1 / k)
    path = report(
        replace(log, arms=NAMES), {NAMES[-1]: uniform, NAMES[0]: uniform}, tmp_path / "page.html", title=NAMES[-2]
    )
    text = path.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    heads = {html.unescape(each) for each in re.findall('<th scope="row">(.*?)</th>', text)}
    assert set(SHOWN[1:8]) & heads
    assert not heads & (set(NAMES) - set(SHOWN))


def test_the_demo_shows_names_as_they_are(tmp_path: Path) -> None:
    """An area, a folder and what `verify` said: in the table, the curves, the picture and the lines."""
    for name, expected in zip(NAMES, SHOWN, strict=True):
        out = io.StringIO()
        console = Console(file=out, width=200)
        known = Baselines(np.full(4, 0.5), np.ones(4), name)
        log = Log(np.tile(np.arange(4), 30), np.zeros(120, np.int64), np.ones(120), 120, 0)
        (folder := tmp_path / printable(name).replace("/", "|")).mkdir()
        show.scores(console, log, known)
        show.curves(console, log, known, folder / "curve.png")
        show.checks(console, [], Verified(False, name))
        said = out.getvalue()
        assert said.count(f"best fixed area, {expected}") == 2
        assert str(folder / "curve.png") in said
        assert all(letter.isprintable() or letter == "\n" for letter in said)
