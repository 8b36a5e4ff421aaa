"""docs/lift.md: its requests work, in their order, and its sentence is one that is said."""

import json
import re
from dataclasses import replace
from pathlib import Path

from live import Live

from simulator.ope.lift.sentence import sentence
from simulator.ope.lift.traffic import Effect, Lift

PAGE = (Path(__file__).parents[3] / "docs" / "lift.md").read_text()
EXAMPLES = re.findall(r"```http\n(\w+) (\S+)\n(.*?)```", PAGE, re.DOTALL)


def test_every_request_of_the_page_works_and_the_last_one_answers_the_lift(server: Live) -> None:
    """One decision has been made, of one slice: there is nothing to compare yet."""
    answers = []
    for method, path, body in EXAMPLES:
        response = server.client.request(method, path, **({"json": json.loads(body)} if body.strip() else {}))
        assert response.status_code in (200, 201), f"{method} {path} {response.text}"
        answers.append(response.json())
    assert [each[0] for each in EXAMPLES] == ["PUT", "POST", "POST", "GET", "GET"]
    assert answers[0]["rewards"]["order"]["cap"] == 150
    assert answers[1]["slice_name"] in answers[0]["slices"]
    assert answers[2]["credited"] == 39.9
    assert answers[3]["lift"] is answers[4]["lift"] is None
    assert answers[3]["note"].startswith("no lift: ")


def test_the_page_s_sentence_is_said_of_such_a_lift() -> None:
    """Letter by letter."""
    whole = Effect(None, 3.0, 2.35, 0.65, 0.10, 1.20, 0.277, 0.04, 0.55, matured=1.0)
    click = Effect("click", 0.31, 0.25, 0.06, 0.046, 0.078, 0.24, 0.183, 0.312)
    order = replace(whole, kind="order", value=0.55, low=-0.2, high=1.3, relative=None, more=61_000)
    found = Lift("learned", "random", whole, (click, order), 40_871, 15_000, 0, (), None, False, 0.05)
    assert f"```text\n{sentence(found)}\n```" in PAGE
