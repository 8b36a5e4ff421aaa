"""Policies by name: a text or a file in, a learner out.

    linucb:alpha=0.5,explore=0,lambda=2,noise=0.3    the server's engine, and so with other types of its policies:
    thompson:scale=0.5  inverse-gap:gamma_scale=20  softmax:temperature=0.1  linucb:explore=auto,challengers=["a","b"]
    home.json                                        the server's engine, set as in an experiment's document
    uniform  best-fixed  ucb1  thompson-free  popularity  epsilon-greedy:explore=0.1
    vw:bag=5  mabwiser  contextualbandits  river  bayesianbandits  obp

`refresh=400` after any of them sets that policy's own interval.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bandit.core.document import Document
from bandit.core.policies import Policy
from bandit.core.validation import parse_document
from bandit.errors import nearest
from simulator.policies.adapters import peers
from simulator.policies.adapters.vw import VowpalWabbit
from simulator.policies.baselines import UCB1, ContextFree, EpsilonGreedy, Fixed, Popularity, Ranked, Thompson
from simulator.policies.engine import Engine
from simulator.policies.protocol import Learner, Task, only
from simulator.wording import named, settings

DOCUMENT = ("lambda", "noise", "prior")  # options of a whole document; all others are the policy's
EXPLORING = 0.1  # epsilon-greedy's default


class Spec(msgspec.Struct, frozen=True):
    """A policy as it was asked for.

    Attributes:
        name: what it is called in results.
        kind: which learner: a key of `KINDS`.
        options: what it is set to.
        refresh: rounds between two refreshes, where it is not the run's.
    """

    name: str
    kind: str
    options: dict[str, Any] = {}
    refresh: int | None = None


def parse(text: str) -> Spec:
    """The policy that a text names; see the head of this file.

    Raises:
        ValueError: for a name that is not known.
        bandit.errors.Problem: a file holds no experiment document.
    """
    _, kind, rest = named(text)
    if kind.endswith(".json"):
        document = parse_document(Path(kind).read_bytes())
        own = {name: part for name, part in msgspec.to_builtins(document).items() if name not in ("arms", "rewards")}
        return _spec(text, "document", own | settings(rest, flags=True))
    if kind not in KINDS or kind == "document":
        known = ", ".join(sorted(set(KINDS) - {"document"}))
        raise ValueError(f"policies are {known} and files NAME.json; unknown {kind!r}{nearest(kind, KINDS)}")
    return _spec(text, kind, settings(rest, flags=True))


def _spec(name: str, kind: str, options: dict[str, Any]) -> Spec:
    refresh = options.pop("refresh", None)
    if refresh is not None and not (isinstance(refresh, int) and refresh >= 1):
        raise ValueError(f"{name}: refresh is a number of rounds, 1 or more; got {refresh!r}")
    return Spec(name, kind, options, refresh)


def with_explore(spec: Spec, explore: float | None) -> Spec:
    """The same policy with this `explore` if it is the server's engine; others have their own ways and stay as is."""
    if explore is None or (spec.kind != "document" and spec.kind not in TYPES):
        return spec
    return msgspec.structs.replace(spec, options={**spec.options, "explore": explore})


def with_features(spec: Spec, name: str, features: Any) -> Spec:
    """The same policy with features of its own, as a document has them, under this name.

    Raises:
        ValueError: it is no policy of the server's, which alone has any.
    """
    if spec.kind == "document":
        return msgspec.structs.replace(spec, name=name, options={**spec.options, "features": features})
    if spec.kind not in TYPES:
        raise ValueError(f"features are of the server's policies: {', '.join(TYPES)}, or NAME.json; got {spec.name!r}")
    return Spec(name, "document", {**in_document(spec.kind, spec.options), "features": features}, spec.refresh)


def in_document(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a policy of the server's as parts of a document."""
    whole = {name: options[name] for name in DOCUMENT if name in options}
    return {**whole, "policy": {"type": kind, **{name: each for name, each in options.items() if name not in whole}}}


def changed(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """A policy with some options set otherwise and named after them; `refresh` among them is its interval."""
    options = {**spec.options, **changes}
    refresh = options.pop("refresh", spec.refresh)
    what = ",".join(f"{option}={value}" for option, value in changes.items())
    return Spec(f"{spec.name}{',' if ':' in spec.name else ':'}{what}", spec.kind, options, refresh)


def build(spec: Spec, task: Task) -> Learner:
    """The learner of a policy for a problem.

    Raises:
        ValueError: for an option that it does not have.
        MissingLibraryError: it needs a library that is not installed.
        bandit.errors.Problem: the document that the options make is not valid.
    """
    return KINDS[spec.kind](spec.options, task)


def _engine(kind: str) -> Callable[[Mapping[str, Any], Task], Learner]:
    def made(options: Mapping[str, Any], task: Task) -> Learner:
        return Engine(in_document(kind, options), task)

    return made


def _document(options: Mapping[str, Any], task: Task) -> Learner:
    """A whole document; options that it does not have itself are its policy's."""
    fields = {field.encode_name for field in msgspec.structs.fields(Document)}
    policy = {**options["policy"], **{name: value for name, value in options.items() if name not in fields}}
    return Engine({**{name: value for name, value in options.items() if name in fields}, "policy": policy}, task)


def _ranked(kind: type[Ranked], explore: float = 0.0) -> Callable[[Mapping[str, Any], Task], Learner]:
    def made(options: Mapping[str, Any], task: Task) -> Learner:
        only(options, ("explore",), kind.__name__)
        chosen = options.get("explore", explore)
        if not (isinstance(chosen, int | float) and 0 <= chosen <= 1):
            raise ValueError(f"{kind.__name__}: explore is a number from 0 to 1; got {chosen!r}")
        return kind(task, float(chosen))

    return made


def _plain(kind: type[ContextFree]) -> Callable[[Mapping[str, Any], Task], Learner]:
    def made(options: Mapping[str, Any], task: Task) -> Learner:
        only(options, (), kind.__name__)
        return kind(task)

    return made


OWN = {"uniform", "fixed", "epsilon-greedy"}  # names that mean something else here; a document has the server's
TAGS = (str(each.__struct_config__.tag) for each in (typing.get_args(Policy) or (Policy,)))
TYPES = tuple(tag for tag in TAGS if tag not in OWN)
KINDS: dict[str, Callable[[Mapping[str, Any], Task], Learner]] = {
    **{kind: _engine(kind) for kind in TYPES},
    "document": _document,
    "uniform": _ranked(Ranked),
    "best-fixed": _ranked(Fixed),
    "ucb1": _ranked(UCB1),
    "thompson-free": _plain(Thompson),
    "popularity": _plain(Popularity),
    "epsilon-greedy": _ranked(EpsilonGreedy, EXPLORING),
    "vw": VowpalWabbit,
    **peers.KINDS,
}
