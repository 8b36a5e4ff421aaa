"""`benchmarks/decisions.py` and `exploring.py`, on sets so small that they say nothing of any policy."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def printed(*arguments: str | Path, script: str = "decisions") -> str:
    """What it prints."""
    command = [sys.executable, str(ROOT / f"benchmarks/{script}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_figures_are_objects_and_a_second_run_plays_nothing_anew(tmp_path: Path) -> None:
    """Ours and one peer on two seeds: means, worst seeds, the paired difference; without --json the same in a table."""
    rows = "\n".join(f"{'ab'[i % 2]},{i % 2 + i / 100},x" for i in range(60))
    (tmp_path / "tiny.csv").write_text(f"label,size,kind\n{rows}\n")
    kept, plot = tmp_path / "kept.jsonl", tmp_path / "curves.svg"
    asked = ["--table", f"tiny={tmp_path / 'tiny.csv'}", "--sets", "tiny", "clicks-12-sure", "--rounds", "60"]
    asked += ["--policies", "ours", "squarecb", "--seeds", "2", "--peer-seeds", "2", "--defaults", "--workers", "1"]
    figures: list[dict[str, Any]] = list(map(json.loads, printed(*asked, "--json", "--keep", kept).splitlines()))
    assert all(set(each) == {"name", "value", "unit", "target", "settings"} for each in figures)
    by_name = {each["name"]: each for each in figures}
    mine, theirs = (by_name[f"tiny {name} regret"] for name in ("linucb:explore=0.02", "vw:squarecb=true"))
    minus = by_name["tiny ours minus squarecb default"]
    assert minus["value"] == pytest.approx(mine["value"] - theirs["value"], abs=0.02)  # each is rounded to .01
    assert minus["settings"]["low"] <= minus["value"] <= minus["settings"]["high"]
    assert mine["settings"] == {"rounds": 60, "refresh": 10, "seeds": 2}
    before = kept.read_text()
    table = printed(*asked, "--keep", kept, "--plot", plot)
    assert f"| tiny | {mine['value']:.1f} (" in table
    assert kept.read_text() == before
    assert plot.read_text().startswith("<?xml")


def test_intervals_are_twice_as_wide_where_a_quarter_is_explored() -> None:
    """At .005 for .02, over 100 rounds; at `auto` as at .02 so early, and challengers widen that of an even choice."""
    asked = ["--sets", "linear", "--rounds", "100", "--seeds", "2", "--workers", "1", "--json"]
    figures = {each["name"]: each for each in map(json.loads, printed(*asked, script="exploring").splitlines())}
    assert all(set(each) == {"name", "value", "unit", "target", "settings"} for each in figures.values())
    ways = (".02", ".005", "auto", "auto, challengers")
    ratio = {way: figures[f"explore {way} of .02 uniform"]["value"] for way in ways}
    assert ratio[".005"] == pytest.approx(2, abs=0.1)
    assert ratio["auto"] == ratio[".02"] == 1
    assert 1.1 < ratio["auto, challengers"] < 1.42
