"""The server's own log: decisions with their feedback, from a file that `bandit-server export` wrote or from the store.

    reward = sum over kinds of weight (default + sum of what feedback was credited)

The first reading keeps what was credited to each rewarded decision, which deferred ones were activated, and what there
is in decisions of each version; the second makes the rows. So memory grows with feedback, and by 8 bytes an entry of a
file (60 where they are out of order): exports may overlap, and each entry counts once, by its position in the log.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from bandit.core.draw import UNKNOWN
from bandit.core.times import DURATION, seconds
from bandit.errors import nearest
from bandit.replica.recent import Delays
from simulator.logs.contexts import LogError
from simulator.logs.documents import Document, Version
from simulator.logs.documents import Kind as Told
from simulator.logs.loaders.repeats import Once
from simulator.logs.loaders.rows import batches, ordered, surveyed
from simulator.logs.log import Kind, changed
from simulator.logs.storage import json_of, lines
from simulator.logs.table import Eligible, Header, KindReward, Row, Share, Shown, Table

OTHER_GENERATION = "rows left out: decided before the experiment was reset"
ORPHANS = "feedback left out: of decisions that are not in the log"
REPEATED = "entries left out: in the file already, by their position in the log"
LOWER = "rows left out: lower positions of lists"
YOUNG = "rows left out: their rewards may still come, as they were younger at the log's end than"
UNSURE = "rows whose rewards may still come, and count as none: nothing tells how long rewards take (matured: null)"
TYPES = ("decision", "feedback", "activation", "experiment")
OTHERS = "it is no log as `bandit-server export` writes it: for one of another kind give --format (csv, vw, ...)"
Entry = dict[str, Any]  # a row of the export
Key = tuple[str, str]  # decision id, arm


@dataclass
class _Made:
    """What the decisions made by one version of the document contain."""

    names: frozenset[str]  # of features
    arms: dict[str, None] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)
    slices: dict[int, str] = field(default_factory=dict)
    users: bool = False
    lists: int = 0
    decisions: int = 0

    def take(self, entry: Entry) -> None:
        self.arms.update((each["arm"], None) for each in entry["eligible"])
        self.arms.update((each["arm"], None) for each in entry["arms"])
        if entry["slice"] is not None:
            self.slices[entry["slice"]] = entry.get("slice_name", str(entry["slice"]))
        self.users = self.users or entry["user"] is not None
        self.lists += len(entry["arms"]) > 1
        self.decisions += 1
        if entry["deferred"]:
            self.deferred.add(entry["decision_id"])


_ENTRY = msgspec.json.Decoder(Entry)


def read(
    path: Path | None,
    *,
    experiment: str | None = None,
    redis_url: str | None = None,
    data_dir: Path | None = None,
    archive: Path | None = None,
    weights: Mapping[str, float] | None = None,
    places: Literal["each", "first"] | None = None,
    min_age: str | None = None,
) -> Table:
    """A server's log as a table.

    Decisions so young at the log's end that rewards may still come are left out, and counted.

    Args:
        path: a file of `bandit-server export`; None to read the store.
        experiment: whose log, of a store.
        redis_url: the store, where it is one of your own.
        data_dir: the store's directory, where the server started it.
        archive: the folder of the archive that has what has left the store's log.
        weights: kind to weight, others count nothing; by default those of the experiment's last document.
        places: `each`: a row for each position of a list, with its marginal propensity; `first`: the first only, which
            keeps the probability of every arm; None: `first` where lists are fewer than half of the decisions.
        min_age: how old a decision has to be at the log's end, such as "2d"; None: the age by which 99 % of each kind's
            rewards came, as decisions older than the reward window tell; where none is, all count.

    Raises:
        LogError: the file is no such export, or nothing says what a reward is.
    """
    repeated = Counter[str]()
    store = partial(_from_store, experiment, redis_url, data_dir, archive)
    entries = partial(_from_file, path, repeated) if path else store
    if min_age is not None and not DURATION.fullmatch(min_age):
        raise LogError(f'min_age: expected a duration such as "12h" or "2d", got {min_age!r}')
    joined = _Joined(entries(), weights)
    joined.min_age_ms = None if min_age is None else round(seconds(min_age) * 1000)
    if joined.last is None:  # nothing says what the contexts consist of
        table = surveyed(lambda counts: joined.rows(entries(), places or "each", counts), learning=True, grid=True)
        table.cleaning.update(repeated)
        return table
    places = places or ("each" if joined.mostly_lists else "first")
    header, counts = joined.header(lists=places == "each"), Counter(repeated)
    return Table(header, batches(header, joined.rows(entries(), places, counts)), counts)


def _from_file(path: Path, repeated: Counter[str]) -> Iterator[Entry]:
    """The entries of a file, each once; says how many are there again.

    Raises:
        LogError: a line is none, or tells of the experiment after decisions that were made by what it tells.
    """
    once, decided = Once(), (-1, -1)
    repeated.clear()
    for number, line in lines(path):
        try:
            entry = json_of(path, number, line, _ENTRY)
            if entry.get("type") not in TYPES:
                raise LogError(f"{path.name}, line {number}: expected a type of {TYPES}, got {entry.get('type')!r}")
        except LogError as error:
            if number > 1:
                raise
            raise LogError(f"{error}; {OTHERS}") from None
        try:
            position = _position(entry)
        except (KeyError, ValueError, AttributeError):
            got = entry.get("position")
            raise LogError(
                f"{path.name}, line {number}: expected a position such as 1767225600000-0, got {got!r}"
            ) from None
        if not once.is_new(position):
            repeated[REPEATED] += 1
            continue
        if entry["type"] == "experiment" and position < decided:
            what = "expected the experiment's row first and decisions after it, as they are exported"
            raise LogError(
                f"{path.name}, line {number}: {what}, got it after later ones: is the file in reverse order?"
            )
        if entry["type"] == "decision":
            decided = max(decided, position)
        yield entry


def _from_store(
    experiment: str | None, redis_url: str | None, data_dir: Path | None, archive: Path | None
) -> Iterator[Entry]:
    from bandit.commands.log_commands import history_of  # a store's libraries are not loaded for a file
    from bandit.replica.export import export
    from bandit.settings import overridden

    if experiment is None:
        raise LogError("expected a log file, or --experiment NAME to read the store, got neither")
    with history_of(overridden({"redis_url": redis_url, "data_dir": data_dir}), experiment, archive) as history:
        yield from export(history, experiment)


class _Joined:
    """What a first reading of the log knows of its decisions."""

    def __init__(self, entries: Iterable[Entry], weights: Mapping[str, float] | None) -> None:
        self.versions: dict[int, Version] = {}
        self.last: Version | None = None
        self.credited: dict[Key, Counter[str]] = {}
        self.activated: set[str] = set()
        self.made: dict[int, _Made] = {}
        self.end = (0, 0)
        self.told = (-1, -1)  # where the last document stands
        self.min_age_ms: int | None = None
        self.changed: dict[tuple[str, str, str], tuple[int, int]] = {}  # when decided, and when last credited
        self.times = array("q")  # of the decisions
        self.told_ms: dict[int, int] = {}  # when each version came
        for entry in entries:
            self._take(entry)
            self.end = max(self.end, _position(entry))
        if self.last is None and weights is None:
            raise LogError(
                "expected a row of type 'experiment' or weights=, got neither: nothing says how rewards are weighted"
            )
        self.document = self.last.document if self.last else Document({kind: Told() for kind in weights or ()})
        self.weights = self._weights(weights)

    def _take(self, entry: Entry) -> None:
        match entry["type"]:
            case "decision":
                version = entry["experiment_version"]
                if version not in self.made:
                    self.made[version] = _Made(frozenset(entry["context"]))
                self.made[version].take(entry)
                self.times.append(_position(entry)[0])
            case "experiment" if entry["document"] is not None:
                self.versions[entry["version"]] = msgspec.convert(entry, Version)
                self.told_ms[entry["version"]] = _position(entry)[0]
                if _position(entry) > self.told:
                    self.last, self.told = self.versions[entry["version"]], _position(entry)
            case "feedback":
                credits_ = self.credited.setdefault((entry["decision_id"], entry["arm"]), Counter())
                credits_[entry["event"]] += entry["credited"]
                if entry["credited"] and "decided" in entry and "refund_of" not in entry:
                    at = round(datetime.fromisoformat(entry["decided"]).timestamp() * 1000), _position(entry)[0]
                    credit = entry["decision_id"], entry["arm"], entry["event"]
                    self.changed[credit] = max(at, self.changed.get(credit, at))
            case "activation":
                self.activated.add(entry["decision_id"])

    def header(self, *, lists: bool) -> Header:
        """What is true of all rows; `lists`: of those of lower positions too."""
        made = [version for number, version in self.made.items() if self._document(number, version.names) is not None]
        lists = lists and any(version.lists for version in made)
        slices = {index: name for version in made for index, name in version.slices.items()}
        some = {
            **dict.fromkeys(("slice", "slice_name", "shares", "mixture"), bool(slices)),
            "user": any(version.users for version in made),
            "position": any(version.lists for version in made),
            "skipped": any(not version.deferred <= self.activated for version in made),
        }
        return Header(
            arms=ordered(
                [_id(arm) for arm in self.document.arms], chain.from_iterable(version.arms for version in made)
            ),
            columns=tuple(name for name in Row.__struct_fields__ if some.get(name, name != "weight")),
            features=tuple(self.document.contexts.features),
            grid=True,
            probability="shown" if lists else "every",
            learning=True,
            reward_range=self._range(),
            **(self._sliced(slices) if slices else {}),
        )

    def _sliced(self, slices: Mapping[int, str]) -> dict[str, Any]:
        """What is known of slices, of kinds of reward and of changes, for the header."""
        names = tuple(slices.get(index, f"slice {index}") for index in range(max(slices) + 1))
        known = [names.index(name) for name in self.document.uniform if name in names]
        return {
            "slices": names,
            "uniform": known[0] if len(known) == 1 else None,
            "kinds": tuple(self._kinds()),
            "changes": tuple(self._changes()),
        }

    def _kinds(self) -> Iterator[Kind]:
        """Each kind with the share of its reward that has come to the decisions that count."""
        delays, ages = self._delays(), self.end[0] - np.array(self.times, np.int64)
        old_enough = ages[ages >= (self.matured_ms() or 0)]
        for name, kind in self.document.rewards.items():
            matured = delays.matured(name, old_enough)
            yield Kind(name, self.weights.get(name, 0.0), kind.default, kind.cap, matured)

    def _changes(self) -> Iterator[tuple[int, str]]:
        """When policies and weights changed after the first decision, and how; within the last generation."""
        last = self.last.generation if self.last else None
        versions = sorted((n, each) for n, each in self.versions.items() if each.generation == last)
        for before, after in pairwise(versions):
            ms = self.told_ms[after[0]]
            if self.times and ms > self.times[0]:
                words = changed(before[1].document.played, after[1].document.played)
                yield from ((ms, what) for what in words)

    def _range(self) -> tuple[float, float] | None:
        """The lowest and highest reward of a decision; a kind may be younger than the decision, and counts 0 then."""
        kinds = self.document.rewards
        ends = [sorted(weight * end for end in kinds[kind].range) for kind, weight in self.weights.items()]
        low, high = sum(min(low, 0.0) for low, _ in ends), sum(max(high, 0.0) for _, high in ends)
        return (low, high) if low < high else None

    def _weights(self, given: Mapping[str, float] | None) -> Mapping[str, float]:
        if given is None:
            return {kind: each.weight for kind, each in self.document.rewards.items()}
        for kind in given:
            if kind not in self.document.rewards:
                known = list(self.document.rewards)
                raise LogError(f"weights: expected kinds of {known}, got {kind!r}{nearest(kind, known)}")
        return given

    @property
    def mostly_lists(self) -> bool:
        """Whether at least half of the decisions are lists."""
        lists, all_ = (sum(getattr(made, name) for made in self.made.values()) for name in ("lists", "decisions"))
        return bool(2 * lists >= all_)

    def matured_ms(self) -> int | None:
        """How old a decision has to be at the log's end; None: nothing tells."""
        if self.min_age_ms is not None:
            return self.min_age_ms
        return self._delays().matured_ms()

    def _delays(self) -> Delays:
        """How long the rewards took that count."""
        delays = Delays(self.end[0], self._window_ms)
        for credit, (decided, came) in self.changed.items():
            if self.weights.get(credit[2]):
                delays.take(credit[2], decided, came)
        return delays

    @property
    def _window_ms(self) -> int:
        return round(seconds(self.document.reward_window) * 1000)

    def rows(self, entries: Iterable[Entry], places: str, counts: Counter[str]) -> Iterator[Row]:
        """The rows of a second reading, up to where the first one ended."""
        matched, age = 0, self.matured_ms()
        young = f"{YOUNG} {(age or 0) / 1000:g} seconds"
        for entry in entries:
            if _position(entry) > self.end:
                break
            if entry["type"] != "decision":
                continue
            left = self.end[0] - _position(entry)[0]
            if age is not None and left < age:
                counts[young] += 1
                matched += sum((entry["decision_id"], each["arm"]) in self.credited for each in entry["arms"])
                continue
            counts[UNSURE] += age is None and bool(self.credited) and left < self._window_ms
            if (document := self._document(entry["experiment_version"], entry["context"])) is None:
                counts[OTHER_GENERATION] += 1
                continue
            made = self._places(entry, document)
            matched += sum((entry["decision_id"], row.shown[-1].arm) in self.credited for row in made)
            kept = made if places == "each" else made[:1]
            if places == "first" and len(made) > 1:
                kept = [msgspec.structs.replace(made[0], rewards=self._whole(entry, document))]
            counts[LOWER] += len(made) - len(kept)
            yield from kept
        counts[ORPHANS] += len(self.credited) - matched

    def _document(self, version: int, context: Iterable[str]) -> Document | None:
        """The document that a decision was made by; None if it was of a generation before the last."""
        made = self.versions.get(version)
        if made is None or self.last is None:  # its row has been trimmed from the log
            names = self.document.contexts.names
            return self.document if self.last is None or names == set(context) else None
        return made.document if made.generation == self.last.generation else None

    def _places(self, entry: Entry, document: Document) -> list[Row]:
        """A row for each position of a decision."""
        # None would say that it is the propensity
        marginals = [UNKNOWN if each["marginal"] is None else each["marginal"] for each in entry["arms"]]
        shown = [Shown(each["arm"], each["propensity"], p) for each, p in zip(entry["arms"], marginals, strict=True)]
        return [self._row(entry, document, shown[: j + 1], len(shown)) for j in range(len(shown))]

    def _whole(self, entry: Entry, document: Document) -> list[KindReward]:
        """What all arms of a decision earned together, of each kind, as a lift counts it."""
        found = {kind: each.default * len(entry["arms"]) for kind, each in document.rewards.items()}
        for shown in entry["arms"]:
            for kind, credit in self.credited.get((entry["decision_id"], shown["arm"]), {}).items():
                if kind in found:
                    found[kind] += credit
        return [KindReward(kind, value) for kind, value in found.items()]

    def _row(self, entry: Entry, document: Document, shown: list[Shown], k: int) -> Row:
        decision_id, position = entry["decision_id"], len(shown) - 1
        credited: Mapping[str, float] = self.credited.get((decision_id, shown[-1].arm), {})
        earned = {kind: each.default + credited.get(kind, 0.0) for kind, each in document.rewards.items()}
        never = entry["deferred"] and decision_id not in self.activated
        eligible = [Eligible(each["arm"], each["probability"]) for each in entry["eligible"]]
        mixture = [Eligible(each["arm"], each["mixture"]) for each in entry["eligible"] if "mixture" in each]
        return Row(
            decision_id=decision_id,
            time=datetime.fromisoformat(entry["time"]),
            context=document.contexts.table(entry["context"]),
            shown=shown,
            eligible=eligible if position == 0 else None,  # of lower positions only the marginal of the arm is known
            reward=sum(self.weights.get(kind, 0.0) * value for kind, value in earned.items()),
            rewards=[KindReward(kind, value) for kind, value in earned.items()],
            slice=entry["slice"],
            slice_name=entry.get("slice_name"),
            shares=[Share(name, share) for name, share in entry.get("shares", {}).items()] or None,
            mixture=mixture or None if position == 0 else None,
            user=entry["user"],
            position=position if k > 1 else None,
            model=f"{entry['experiment_version']}/{entry['model_position']}",
            skipped=True if never else None,
        )


def _id(arm: str | dict[str, Any]) -> str:
    return arm if isinstance(arm, str) else str(arm["id"])


def _position(entry: Entry) -> tuple[int, int]:
    ms, _, seq = entry["position"].partition("-")
    return int(ms), int(seq)
