"""No change of an experiment is without its entry in the audit log, wherever the store or the server ends."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from trial import Trial

import bandit.store.access as access
from bandit.access.audit import ACTOR, Actor, AuditEntry, read_entry
from bandit.core.revision import revise
from bandit.errors import StoreUnavailable
from bandit.log.records import Position
from bandit.serving.access.audited import put_audited
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Store


class Broken:
    """A store of which some calls end as in an outage, before or after they have had their effect."""

    def __init__(self, store: Store, **broken: str) -> None:
        self._store, self._broken = store, broken

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self._store, name)
        when = self._broken.get(name)

        def called(*given: Any) -> Any:
            if when == "after":
                found(*given)
            raise StoreUnavailable("planted")

        return called if when else found


def entries(store: Store, name: str, monkeypatch: pytest.MonkeyPatch, *, later: bool = True) -> list[AuditEntry]:
    """What the audit log has of an experiment, the oldest first; `later`: once what was under way has no end."""
    with monkeypatch.context() as patched:
        if later:
            patched.setattr(access, "UNDER_WAY_MS", -1)
        found = [read_entry(data) for _, data in store.audited("", 200) if data != b"{}"]
    return [entry for entry in reversed(found) if entry.target == name]


def change(trial: Trial, store: Any) -> Any:
    """Change the experiment's alpha, through a store, as somebody."""
    before = trial.store.config(trial.name)
    assert before is not None
    document = before.config.document
    policy = msgspec.structs.replace(document.policy, alpha=2.0)
    after = revise(before.config, msgspec.structs.replace(document, policy=policy), learned=False, reset=False)
    own = ACTOR.set(Actor("somebody", "admin", lambda: "10.0.0.7", "r-1"))
    try:
        return put_audited(store, after, before, 2**53, 1000)
    finally:
        ACTOR.reset(own)


@pytest.fixture
def trial(store: Store, name: str) -> Trial:
    """An experiment in each kind of store."""
    return Trial(store, name)


def test_a_change_has_its_entry(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, from where, and what was there before and after."""
    assert isinstance(change(trial, trial.store), Position)
    (entry,) = entries(trial.store, trial.name, monkeypatch, later=False)
    assert (entry.actor, entry.address, entry.request_id) == ("somebody", "10.0.0.7", "r-1")
    assert (entry.action, entry.outcome) == ("experiment.change", "done")
    assert entry.before["/version"] + 1 == entry.after["/version"]
    assert (entry.before["/policy/alpha"], entry.after["/policy/alpha"]) == ("auto", 2.0)


@pytest.mark.parametrize(
    ("broken", "changed", "outcomes"),
    [
        ({"audit_begin": "before"}, False, []),
        ({"put": "before"}, False, ["unknown"]),
        ({"put": "after"}, True, ["unknown"]),
        ({"audit_end": "before"}, True, ["unknown"]),
        ({"audit_end": "after"}, True, ["done"]),
    ],
)
def test_no_change_is_without_its_entry(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, broken: dict[str, str], changed: bool, outcomes: list[str]
) -> None:
    """Cut off at each step: what may have happened is told of as such, and what cannot be noted is not done."""
    if isinstance(trial.store, MemoryStore):
        pytest.skip("a store in memory ends with its process")
    before = trial.store.config(trial.name)
    with suppress(StoreUnavailable):
        change(trial, Broken(trial.store, **broken))
    after = trial.store.config(trial.name)
    assert before is not None
    assert after is not None
    assert (after.config.version > before.config.version) == changed
    assert [entry.outcome for entry in entries(trial.store, trial.name, monkeypatch)] == outcomes


def test_what_is_refused_has_no_entry(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that another one came before is made anew, and told of once."""
    stale = trial.store.config(trial.name)
    change(trial, trial.store)
    assert stale is not None
    assert put_audited(trial.store, stale.config, stale._replace(learned=True), 2**53, 1000) is None
    assert len(entries(trial.store, trial.name, monkeypatch)) == 1
