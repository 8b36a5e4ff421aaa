"""Targets in CSV files: written like any other CSV, each arm once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from logs import log_of

from simulator.logs.contexts import LogError
from simulator.logs.log import Log
from simulator.policies.targets import target


@pytest.fixture
def log() -> Log:
    """Three rows, four arms: a, b, c, d."""
    made = log_of(np.full((3, 4), 0.25), np.array([0, 1, 2]), np.zeros(3))
    return replace(made, arms=("a", "b", "c", "d"))


@pytest.mark.parametrize(
    "text",
    [
        "arm,probability\na,0.75\nc,0.25\n",
        "\ufeffarm,probability\r\na,0.75\r\n\r\nc,0.25",
        "sep=;\narm;probability\na;0,75\nc;0,25\n",
        "\ufeffprobability\tarm\n0,75\ta\n0,25\tc\n",
        'arm,probability,note\n"a","0,75","x\ny"\nc,"0,25",\n',
    ],
)
def test_a_target_is_the_same_from_any_spreadsheet(log: Log, tmp_path: Path, text: str) -> None:
    """Three quarters a, one quarter c."""
    path = tmp_path / "target.csv"
    path.write_bytes(text.encode())
    assert target(log, str(path)).tolist() == [[0.75, 0, 0.25, 0]] * 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arm,probability\na,0.5\na,0.5\n", "line 3: expected each arm once, got 'a' again"),
        ("arm,probability,probability\na,1,0\n", "columns with different names, got 'probability' twice"),
        ("arm,probability\na\n", "line 2: expected a number as probability .*, got ''"),
        ("arm;probability\nx;1\n", "line 2: the log has no arm 'x'"),
        ("arm,probability\n", "expected columns arm and probability, got no rows"),
        ("arm,share\na,1\n", r"expected columns arm and probability, got \['arm', 'share'\]"),
        (
            'arm,probability,note\na,1,"x\nc,0.25,y\nd,0.75,z\n',
            r"row 1 \(line 2\): a quote opens here and is left open",
        ),
        ('arm,probability,note\na,1,"x\nc,0.25,y"\nd,0,z\n', r"row 1 \(line 2\): a quote opens here and is closed"),
        ("", "a line of names, got none"),
    ],
)
def test_what_a_target_lacks_is_told_with_its_line(log: Log, tmp_path: Path, text: str, says: str) -> None:
    """An arm that is there twice would have counted once."""
    path = tmp_path / "target.csv"
    path.write_text(text)
    with pytest.raises(LogError, match=says):
        target(log, str(path))
