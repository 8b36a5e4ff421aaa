"""docs/experiments.md: its examples work, in their order, and its tables have every setting with its real default."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from live import Live

from bandit.core.document import ArmSpec, Document, Kind
from bandit.core.features import Bins, Boolean, Category, Fourier, Hashed, Interaction, Number, Rank, Vector
from bandit.core.policies import EpsilonGreedy, Fixed, InverseGap, LinUCB, Softmax, Thompson, Uniform
from bandit.core.slices import SliceSpec

PAGE = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text()
EXAMPLES = re.findall(r"```http\n(\w+) (\S+)\n\n?(.*?)```", PAGE, re.DOTALL)
SECTIONS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "All settings": (Document,),
    "Features": (Fourier, Bins, Rank, Number, Boolean, Category, Hashed, Vector, Interaction),
    "Arms": (ArmSpec,),
    "Policy": (
        Uniform,
        Fixed,
        EpsilonGreedy,
        Thompson,
        InverseGap,
        Softmax,
        LinUCB,
    ),  # `explore` is of the last
    "Slices": (SliceSpec,),
    "Rewards": (Kind,),
}


def test_every_example_works_in_the_page_s_order(server: Live) -> None:
    """A PUT of a new experiment is 201, everything else 200; what the page says of an answer is so."""
    made = set()
    answers: list[dict[str, Any]] = []
    for method, path, body in EXAMPLES:
        response = server.client.request(method, path, json=json.loads(body) if body else None)
        new = method == "PUT" and path.count("/") == 3 and path.partition("?")[0] not in made
        assert response.status_code == (201 if new else 200), f"{method} {path} {response.text}"
        made.add(path.partition("?")[0])
        answers.append(response.json())
    assert len(answers) == PAGE.count("```http") >= 20
    paused = next(answer for answer in answers if answer.get("logged") is False)
    assert (paused["decision_id"], paused["arms"][0]["arm"]) == (None, "spring")
    assert {"status": "activated"} in answers
    shadow = next(answer for answer in answers if "shadow" in answer and "logged" in answer)
    (shown,) = shadow["arms"]
    assert (shown["arm"], round(shown["propensity"], 3)) in {("old", 0.975), ("new", 0.025)}


def rows(section: str) -> dict[str, list[str]]:
    """The rows of a section's table by their settings."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in found}


def settings_of(struct: type[msgspec.Struct]) -> dict[str, str]:
    """A struct's settings, each with its default as the page writes it."""
    found = {}
    for field in msgspec.structs.fields(struct):
        made = field.default_factory is not msgspec.NODEFAULT
        default = field.default_factory() if made else field.default
        written = {msgspec.NODEFAULT: "required", msgspec.UNSET: "none"}.get(default) if not made else None
        found[field.encode_name] = written or f"`{json.dumps(msgspec.to_builtins(default))}`"
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_in_its_table_with_its_default(section: str) -> None:
    """No setting is left out, none is made up, and what is shown as the default is the struct's own."""
    told = {name: cells[1] for name, cells in rows(section).items()}
    told.pop("type", None)  # the tag
    expected: dict[str, str] = {}
    for struct in SECTIONS[section]:
        expected |= settings_of(struct)
    assert told == expected


def test_every_setting_has_an_example() -> None:
    """Each of them is a key of one of the bodies that are sent."""
    sent = "".join(body for _, _, body in EXAMPLES)
    for section in SECTIONS:
        for name in rows(section):
            assert f'"{name}":' in sent, name
