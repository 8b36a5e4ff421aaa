"""What a request changes in an experiment's document, where the server's own policies cannot show it."""

import msgspec
import pytest

from bandit.core.document import Document, Kind
from bandit.core.policies import LinUCB
from bandit.serving import changes
from bandit.serving.changes import Sent, patched


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
