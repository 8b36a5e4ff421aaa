"""What a request changes in an experiment's document, where the server's own policies cannot show it."""

from typing import Any

import msgspec
import pytest

from bandit.core.document import Document, Kind
from bandit.core.policies import EpsilonGreedy, InverseGap, LinUCB, Softmax, Thompson
from bandit.core.slices import SliceSpec
from bandit.serving import changes
from bandit.serving.changes import Sent, patched, replaced


class Another(msgspec.Struct, tag="another", frozen=True, forbid_unknown_fields=True):
    """A policy that is not there yet."""

    draws: int = 1
    explore: float = 0.1


class Later(Document, frozen=True):
    """A document of a later version."""

    policy: LinUCB | Another = LinUCB()


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        (LinUCB(2.0, explore=0.5), b'{"type": "another", "draws": 3}', Another(3)),
        (LinUCB(2.0, explore=0.5), b'{"type": "another"}', Another()),
        (Another(3, 0.5), b'{"type": "another", "draws": 4}', Another(4, 0.5)),
        (Another(3, 0.5), b'{"draws": 4}', Another(4, 0.5)),
        (Another(3, 0.5), b'{"type": "linucb"}', LinUCB()),
    ],
)
def test_a_patch_to_another_policy_leaves_nothing_of_the_old_one(
    monkeypatch: pytest.MonkeyPatch, before: LinUCB | Another, patch: bytes, after: LinUCB | Another
) -> None:
    """Its parameters would be unknown fields, or would silently count for another policy; of the same, they stay."""
    monkeypatch.setattr(changes, "parse_document", msgspec.json.Decoder(Later).decode)
    document = Later(rewards={"click": Kind()}, arms=("a",), policy=before)
    assert patched(Sent.read(b'{"policy": %b}' % patch))(document).policy == after


@pytest.mark.parametrize("kind", [LinUCB, EpsilonGreedy, Thompson, InverseGap, Softmax])
def test_a_document_sent_anew_that_names_no_explore_keeps_the_former_default(kind: Any) -> None:
    """An experiment of when it was .02 explores as it did; what is named counts; other numbers and types give way."""
    tag = kind.__struct_config__.tag
    bare: dict[str, Any] = {"rewards": {"click": {}}, "arms": ["a"], "slices": {"one": {}, "two": {"share": 0}}}

    def after(was: Any, **named: Any) -> tuple[Any, Any]:
        slices = {"one": SliceSpec(policy=was)}
        before = Document(rewards={"click": Kind()}, arms=("a",), policy=was, slices=slices)
        policy = {"type": tag, **named}
        sent = bare | {"policy": policy, "slices": {"one": {"policy": policy}, "two": {"share": 0}}}
        now = replaced(Sent.read(msgspec.json.encode(sent)))(before)
        return now.policy, now.slices["one"].policy

    assert after(kind(explore=0.02)) == (kind(explore=0.02), kind(explore=0.02))
    assert after(kind(explore=0.02), challengers=["a"])[0] == kind(explore=0.02, challengers=("a",))
    assert after(kind(explore=0.02), explore="auto") == (kind(), kind())
    assert after(kind(explore=0.03)) == (kind(), kind())
    other = Softmax if kind is not Softmax else InverseGap
    assert after(other(explore=0.02)) == (kind(), kind())


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        (b'{"alpha": 2}', LinUCB(2.0, explore=0.02, challengers=("a",))),
        (b'{"explore": "auto"}', LinUCB(1.0, challengers=("a",))),
        (b'{"explore": null, "challengers": null}', LinUCB(1.0)),
        (b'{"challengers": ["b"]}', LinUCB(1.0, explore=0.02, challengers=("b",))),
        (b'{"type": "softmax"}', Softmax()),
    ],
)
def test_a_patch_changes_of_a_policy_what_it_names(patch: bytes, after: Any) -> None:
    """A policy of another type begins with its defaults, as it does of all its parameters."""
    was = Document({"click": Kind()}, ("a", "b"), policy=LinUCB(1.0, explore=0.02, challengers=("a",)))
    assert patched(Sent.read(b'{"policy": %b}' % patch))(was).policy == after


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

    assert after(LinUCB(1.0, explore=0.3), 1.0) == (LinUCB(1.0), 1.0, LinUCB(1.0))
    assert after(LinUCB(2.0), 3.0) == (LinUCB(), "auto", LinUCB())
    slices = {"one": {"policy": {"alpha": 7}}, "two": {"share": 0}}
    named = {"policy": {"alpha": "auto"}, "lambda": "auto", "slices": slices}
    assert after(LinUCB(1.0), 1.0, **named) == (LinUCB(), "auto", LinUCB(7.0))
    assert after(LinUCB(1.0), "auto", policy={"type": "epsilon-greedy"})[:2] == (EpsilonGreedy(), "auto")
