"""Pages for those who work on this: what they name is there, pictures are what is drawn, no word of the API lacks."""

import dataclasses
import re
import runpy
from pathlib import Path

import msgspec
import pytest

from bandit.core.document import Kind
from bandit.core.features import Bins, Boolean, Category, Fourier, Hashed, Interaction, Number, Rank, Vector
from bandit.core.policies import LinUCB
from bandit.serving.api import docs
from bandit.serving.api.answers import Estimate, ShownArm
from bandit.serving.api.docs import Seen
from bandit.serving.api.problems import FaultDetails
from bandit.serving.evaluation import Candidate, Change, Effect, Lift, Slice
from simulator.ope.evaluate import ESTIMATORS, EstimatorRow
from simulator.ope.evaluate_lists import ESTIMATORS as LIST_ESTIMATORS

ROOT = Path(__file__).parent.parent.parent
NAMES = ("architecture", "protocol", "mathematics", "glossary", "decisions-compared")
WRAPPED = ["CONTRIBUTING.md", *(f"docs/{name}.md" for name in NAMES)]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# a path has a folder, or is one of the root's own; a name alone is a module spoken of
NAMED = re.compile(r"(?<![\w/.:-])((?:[\w.-]+/)+[\w-]+\.(?:py|lua|md|svg|j2|toml|yml))\b")
FOLDERS = ("bandit", "simulator", "tests", "docs", "benchmarks", "examples", ".ci")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """Paths from the root, beginning with one of our folders; links are tested with the README."""
    named = {path for path in NAMED.findall(page.read_text()) if path.partition("/")[0] in FOLDERS}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_paths_are_found_where_they_are_written() -> None:
    """The pattern sees a path in code, in prose and at a sentence's end."""
    text = (
        "`bandit/core/sums.py`, see docs/protocol.md. (tests/bandit/core/test_sums.py) https://example.org/bandit/x.py"
    )
    assert NAMED.findall(text) == ["bandit/core/sums.py", "docs/protocol.md", "tests/bandit/core/test_sums.py"]


def test_the_picture_is_what_its_script_draws() -> None:
    """`python docs/architecture.py` was run after the last change."""
    drawn = runpy.run_path(str(ROOT / "docs/architecture.py"))["drawing"]()
    assert (ROOT / "docs/architecture.svg").read_text() == drawn


@pytest.mark.parametrize("page", WRAPPED)
def test_lines_are_wrapped(page: str) -> None:
    """At most 120 characters, but for rows of tables."""
    long = [line for line in (ROOT / page).read_text().splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []


def fields() -> set[str]:
    """The names of all fields of the contract's bodies and answers, and of the commands' rows."""
    inner = (
        *docs.TYPES,
        Kind,
        LinUCB,
        Number,
        Boolean,
        Category,
        Hashed,
        Vector,
        Interaction,
        Fourier,
        Bins,
        Rank,
        Estimate,
        ShownArm,
        Slice,
        Candidate,
        Lift,
        Effect,
        Change,
        Seen,
        FaultDetails,
    )
    names = {field.encode_name for each in inner for field in msgspec.structs.fields(each)}
    return names | {field.name for field in dataclasses.fields(EstimatorRow)} | set(ESTIMATORS) | set(LIST_ESTIMATORS)


def test_the_glossary_has_every_field_of_the_api() -> None:
    """As code, in one row or another; but for what needs no word."""
    told = set(re.findall(r"`([\w-]+)`", (ROOT / "docs/glossary.md").read_text()))
    plain = {"id", "name", "sum", "experiments", "title", "type", "status", "instance", "kind", "users", "feedback"}
    assert sorted(fields() - told - plain) == []
