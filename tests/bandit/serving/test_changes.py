"""What a request changes in an experiment's document, where the server's own policies cannot show it."""

from typing import Any

import msgspec
import pytest

from bandit.core.document import Document, Kind
from bandit.core.policies import EpsilonGreedy, LinUCB
from bandit.core.slices import SliceSpec
from bandit.serving import changes
from bandit.serving.changes import Sent, patched, replaced


class Thompson(msgspec.Struct, tag="thompson", frozen=True, forbid_unknown_fields=True):
    """A policy that is not there yet."""

    draws: int = 1
    explore: float = 0.1


class Later(Document, frozen=True):
    """A document of a later version."""

    policy: LinUCB | Thompson = LinUCB()


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        (LinUCB(2.0, 0.5), b'{"type": "thompson", "draws": 3}', Thompson(3)),
        (LinUCB(2.0, 0.5), b'{"type": "thompson"}', Thompson()),
        (Thompson(3, 0.5), b'{"type": "thompson", "draws": 4}', Thompson(4, 0.5)),
        (Thompson(3, 0.5), b'{"draws": 4}', Thompson(4, 0.5)),
        (Thompson(3, 0.5), b'{"type": "linucb"}', LinUCB()),
    ],
)
def test_a_patch_to_another_policy_leaves_nothing_of_the_old_one(
    monkeypatch: pytest.MonkeyPatch, before: LinUCB | Thompson, patch: bytes, after: LinUCB | Thompson
) -> None:
    """Its parameters would be unknown fields, or would silently count for another policy; of the same, they stay."""
    monkeypatch.setattr(changes, "parse_document", msgspec.json.Decoder(Later).decode)
    document = Later(rewards={"click": Kind()}, arms=("a",), policy=before)
    assert patched(Sent.read(b'{"policy": %b}' % patch))(document).policy == after


def test_a_document_sent_anew_that_names_no_alpha_keeps_the_former_default() -> None:
    """An experiment of when alpha and lambda were 1 decides as it did; what is named counts; other numbers give way."""
    bare: dict[str, Any] = {
        "rewards": {"click": {}},
        "arms": ["a"],
        "slices": {"one": {"policy": {}}, "two": {"share": 0}},
    }

    def after(was: LinUCB, lam: float | str, **sent: Any) -> tuple[Any, ...]:
        slices = {"one": SliceSpec(policy=was)}
        before = Document(rewards={"click": Kind()}, arms=("a",), policy=was, lam=lam, slices=slices)
        now = replaced(Sent.read(msgspec.json.encode(bare | sent)))(before)
        return now.policy, now.lam, now.slices["one"].policy

    assert after(LinUCB(1.0, 0.3), 1.0) == (LinUCB(1.0), 1.0, LinUCB(1.0))
    assert after(LinUCB(2.0), 3.0) == (LinUCB(), "auto", LinUCB())
    slices = {"one": {"policy": {"alpha": 7}}, "two": {"share": 0}}
    named = {"policy": {"alpha": "auto"}, "lambda": "auto", "slices": slices}
    assert after(LinUCB(1.0), 1.0, **named) == (LinUCB(), "auto", LinUCB(7.0))
    assert after(LinUCB(1.0), "auto", policy={"type": "epsilon-greedy"})[:2] == (EpsilonGreedy(), "auto")
