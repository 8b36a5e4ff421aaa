"""Tables of the terminal: digits as in the report, nothing rounded away, and what a cap does above them."""

from typing import Any

import pytest

from simulator.cli import output

ROW: dict[str, Any] = {
    "estimator": "dr", "value": 61278527.25, "low": 57386447.3, "high": 66070342.5, "verdict": "sequence",
    "n": 3000, "n_eff": 3000.4, "max_weight": 1.0, "note": "",
}  # fmt: skip


def test_large_values_are_no_powers_of_ten(capsys: pytest.CaptureFixture[str]) -> None:
    """61,278,527 with all its digits; five of them were a loss of a twentieth of the interval."""
    output.print_evaluation("uniform", [ROW])
    said = capsys.readouterr().out
    assert "61,278,527" in said
    assert "57,386,447" in said
    assert "e+" not in said


def test_a_value_has_the_digits_of_its_interval() -> None:
    """Two of the width, at least three of its own: as in the report."""
    assert output.cells({"value": 0.362461, "low": 0.362441, "high": 0.362482}) == ["0.362461", "0.362441", "0.362482"]
    assert output.cells({"value": 0.3624, "low": -0.1, "high": 0.9}) == ["0.362", "-0.100", "0.900"]
    assert output.cells({"held_out": 1.23456, "low": None, "high": None}) == ["1.23", "-", "-"]
    assert output.cells({"behind": 0.5, "behind_low": 1e-9, "behind_high": 1.0}) == ["0.500", "0", "1.00"]
    assert output.cells({"n": 40000, "chosen": True, "mean_reward": 0.41236}) == ["40,000", "True", "0.41236"]


def test_a_cap_stands_in_the_title_and_the_title_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the numbers, on one line, however narrow the table."""
    output.print_evaluation("a target of forty letters, which is quite long", [ROW], "rewards above 60 count as 60")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("largest weight 1.00; rewards above 60 count as 60")
    output.print_rows([{"x": 1}], as_json=False, title="rewards above 60 count as 60")
    assert capsys.readouterr().out.splitlines()[0] == "rewards above 60 count as 60"
