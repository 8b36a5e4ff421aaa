"""Numbers that docs/mathematics.md and CONTRIBUTING.md state, against the code."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from bandit.core.ridge.linear import Real, Ridge, estimates, pooled_mean, upper, width
from bandit.log.records import FORMAT
from simulator.ope.checks.overlap import effective_n
from simulator.ope.drifting import SHARES, SLOPES
from simulator.ope.estimators import dr, ips, snips

ROOT = Path(__file__).parent.parent.parent
MATHEMATICS = (ROOT / "docs/mathematics.md").read_text()
PROSE = " ".join(MATHEMATICS.split())
FORMATS = re.findall(
    r"^\| [^|]* \| `([\w.]+)\.([A-Z_]+)` \| (\d+) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
)
CONSTANTS = re.findall(r"^\| `([\w.]+)\.([A-Z_0-9]+)` \| ([0-9.]+) \|", MATHEMATICS, re.MULTILINE)


@pytest.mark.parametrize(("module", "name", "value"), CONSTANTS)
def test_a_constant_is_the_codes(module: str, name: str, value: str) -> None:
    """Each row of the table of constants."""
    assert float(value) == getattr(import_module(module), name)


def test_the_table_of_constants_was_found() -> None:
    """The pattern reads the table as it is written."""
    assert len(CONSTANTS) == MATHEMATICS.partition("## Constants")[2].count("\n| `")


def test_the_worked_example_is_what_the_code_computes() -> None:
    """Two events of one arm: by hand in the text, here by the readable formulae."""
    X, r = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1.0], [0.0]])
    arm = Real(X.T @ X, r.T @ X, r.T @ r, 2.0)
    found, x = estimates([arm], Ridge(np.ones(1), np.ones(1)))[0], np.array([1.0, 1.0])
    score = upper(found, x, 1.0)
    assert f"mu = {pooled_mean([arm], np.ones(1)):.4f}" in PROSE
    assert f"G = diag({found.G[0, 0]:.4f}, {found.G[1, 1]:.4f})" in PROSE
    assert f"theta = ({found.theta[0]:.4f}, {found.theta[1]:.4f})" in PROSE
    assert f"sigma = {found.sigma:.4f}" in PROSE
    assert f"the width is {width(x, found.G):.4f} and the score with alpha 1 is {score:.4f}" in PROSE


def test_the_example_of_estimators_is_what_the_code_computes() -> None:
    """Four rows of two arms."""
    mu, pi, q = np.tile([0.8, 0.2], (4, 1)), np.full((4, 2), 0.5), np.array([0.6, 0.2])
    arm, r = np.array([0, 0, 0, 1]), np.array([1.0, 0.0, 1.0, 0.0])
    shared = r, mu[range(4), arm], pi[range(4), arm]
    assert f"ips = {ips(*shared).value:.4f}, snips = {snips(*shared).value:.4f}" in PROSE
    assert f"dr = {dr(*shared, q[arm], pi @ q).value:.4f}" in PROSE
    assert f"n_eff* = {effective_n(pi, mu):.4f}" in PROSE


def test_slopes_and_shares_are_as_stated() -> None:
    """l_k b = .8 2^-k and p_k = 1 / ((k + 1) (k + 2)), k = 0 .. 15."""
    k = np.arange(16)
    np.testing.assert_array_equal(SLOPES, 0.8 * 2.0**-k)
    np.testing.assert_array_equal(SHARES, 1 / ((k + 1) * (k + 2)))


def test_formats_are_those_of_the_code() -> None:
    """The table of format versions in CONTRIBUTING.md."""
    assert len(FORMATS) == 4
    for module, name, value in FORMATS:
        found = getattr(import_module(module), name)
        assert value == (found.decode() if isinstance(found, bytes) else str(found)), name


def test_the_script_writes_the_records_format() -> None:
    """`append.lua` has the number of its own: in the heads of activations and feedback."""
    script = (ROOT / "bandit/store/lua/append.lua").read_text()
    assert set(re.findall(r"\bpack\('<BBBB\w+', (\d+),", script)) == {str(FORMAT)}
