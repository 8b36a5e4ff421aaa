"""What whoever runs an experiment asks for: its document, its arms, its evaluation, its decisions looked at."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from bandit.client.connection import Connection
from bandit.client.values import Id, listed, name_sent, names_sent

PAGE: Final = 1000  # arms or experiments that the server tells at once
EVALUATING: Final = 130.0  # seconds an evaluation may take: the server gives it 120

Json = dict[str, Any]


class Manager(Connection):
    """The calls about experiments; those about visitors are `Client`'s, which is what programs use."""

    def __init__(self, url: str, api_key: str | None, timeout: float, deadline: float, connections: int) -> None:
        super().__init__(url, api_key, timeout, deadline, connections)
        self._aggregations: dict[str, dict[str, str]] = {}

    async def put_experiment(
        self,
        experiment: str,
        document: Mapping[str, Any],
        *,
        reset: bool = False,
        dry_run: bool = False,
        version: int | None = None,
    ) -> Json:
        """The experiment as the server now has it, after creating or replacing it with the whole document.

        With `reset` it starts from zero. That is sent once, whatever the answer: a repeat would throw away what was
        learned after the first. With a `version` it replaces only that one, as does a document that `get_experiment`
        gave, which has its version: then 412 after a cut connection can also mean that it was done. With `dry_run`
        nothing is changed, and the answer lists what would be.

        Raises:
            ClientError: if the server refused, or the deadline passed; after a reset that met 503 or no answer, look
                at the `generation` to know whether it was done.
        """
        return await self._change("PUT", experiment, document, reset, dry_run, version)

    async def patch_experiment(
        self,
        experiment: str,
        patch: Mapping[str, Any],
        *,
        reset: bool = False,
        dry_run: bool = False,
        version: int | None = None,
    ) -> Json:
        """The experiment as the server now has it, after a change of what the patch names (RFC 7386).

        Objects are merged, lists replaced whole, and None gives a setting its default back. Otherwise as
        `put_experiment`.
        """
        return await self._change("PATCH", experiment, patch, reset, dry_run, version)

    async def get_experiment(self, experiment: str) -> Json:
        """The experiment's document with its version and generation."""
        return self._remember(experiment, await self._call("GET", self._path(experiment), None, Json))

    async def experiments(self) -> list[Json]:
        """Every experiment's document, by name."""
        return [each async for each in self._pages(f"{self._url}/v1/experiments", "experiments")]

    async def delete_experiment(self, experiment: str, *, confirm: bool = False, version: int | None = None) -> None:
        """Nothing, once the experiment is deleted; it is sent once.

        Raises:
            ClientError: 428 `confirmation_required` unless `confirm` says that any version is meant, or `version` which
                one. After no answer, a 404 from `get_experiment` tells that it was done.
        """
        path = self._path(experiment, _query(confirm=experiment if confirm else None))
        await self._call("DELETE", path, None, type(None), repeat=False, headers=_if_match(version))
        self._aggregations.pop(experiment, None)

    async def arms(self, experiment: str) -> list[Json]:
        """What each arm has seen, in the order in which they were first named, retired ones too."""
        return [each async for each in self._pages(self._path(experiment, "/arms"), "arms")]

    async def put_arms(
        self, experiment: str, arms: Iterable[str | Mapping[str, Any]], *, dry_run: bool = False
    ) -> Json:
        """The experiment, after its whole list of arms was replaced; a status changes only where the list names it.

        With `dry_run` nothing is changed, and the answer lists what would be, here and for a single arm.

        Raises:
            TypeError: if the arms are no list, such as a mapping by name: each is a name or an object with its `id`.
        """
        body = listed(arms, "arms' names, or of objects with an `id`")
        return await self._call("PUT", self._path(experiment, "/arms" + _trying(dry_run)), body, Json)

    async def get_arm(self, experiment: str, arm: str) -> Json:
        """One arm as the document has it, and what it has seen."""
        return await self._call("GET", self._arm(experiment, arm), None, Json)

    async def put_arm(self, experiment: str, arm: str, document: Mapping[str, Any], *, dry_run: bool = False) -> Json:
        """The arm, after it was added or replaced; its status changes only where the document names it."""
        return await self._call("PUT", self._arm(experiment, arm) + _trying(dry_run), document, Json)

    async def patch_arm(self, experiment: str, arm: str, patch: Mapping[str, Any], *, dry_run: bool = False) -> Json:
        """The arm, after a change of what the patch names, such as `{"status": "paused"}`."""
        return await self._call("PATCH", self._arm(experiment, arm) + _trying(dry_run), patch, Json)

    async def delete_arm(self, experiment: str, arm: str, *, dry_run: bool = False) -> Json | None:
        """None, once the arm is retired: never shown again, but what it has learned is kept.

        With `dry_run` it is not, and the answer lists what would change.
        """
        if dry_run:
            return await self._call("DELETE", self._arm(experiment, arm) + _trying(dry_run), None, Json)
        await self._call("DELETE", self._arm(experiment, arm), None, type(None), repeat=False)
        return None

    async def features(self, experiment: str) -> Json:
        """What came of each feature in the newest decisions, beside what the document declares."""
        return await self._call("GET", self._path(experiment, "/features"), None, Json)

    async def evaluation(
        self,
        experiment: str,
        *,
        targets: Iterable[str] = (),
        since: str | datetime | timedelta | None = None,
        min_age: str | timedelta | None = None,
        rows: int | None = None,
        slice: str | None = None,  # noqa: A002 - the parameter's name
        baseline: str | None = None,
    ) -> Json:
        """How much one slice beats another (`lift`, with its `sentence`), and what `targets` would have earned.

        By default learned against random, or else the first slice against the one that plays uniformly or the next.
        It may take a minute or two where the log is long, and has a deadline of its own for that.
        """
        asked = {"since": _when(since), "min_age": _when(min_age), "rows": rows, "slice": slice, "baseline": baseline}
        query = _query(target=names_sent(targets, "targets") or None, **asked)
        path = self._path(experiment, "/evaluation" + query)
        return await self._call("GET", path, None, Json, deadline=EVALUATING, patient=True)

    async def decision(self, experiment: str, decision_id: Id, *, explain: bool = False) -> Json:
        """What was shown and why, and what was credited when; with `explain` also what the model of now makes of it."""
        place = quote(name_sent(decision_id) or "", safe="")
        path = self._path(experiment, f"/decisions/{place}{_query(explain='true' if explain else None)}")
        return await self._call("GET", path, None, Json)

    async def _change(
        self, method: str, experiment: str, body: Mapping[str, Any], reset: bool, dry_run: bool, version: int | None
    ) -> Json:
        path = self._path(experiment, _query(reset="true" if reset else None, dry_run="true" if dry_run else None))
        repeat = dry_run or not reset
        answer = await self._call(method, path, body, Json, repeat=repeat, headers=_if_match(version))
        return answer if dry_run else self._remember(experiment, answer)

    def _remember(self, experiment: str, answer: Json) -> Json:
        """Keep the aggregation of each reward kind, and pass the answer on."""
        kinds = {kind: rule.get("aggregation", "sum") for kind, rule in answer.get("rewards", {}).items()}
        self._aggregations.setdefault(experiment, {}).update(kinds)
        return answer

    def _arm(self, experiment: str, arm: str) -> str:
        return self._path(experiment, f"/arms/{quote(arm, safe='')}")

    async def _pages(self, path: str, what: str) -> AsyncIterator[Json]:
        cursor = None
        while True:
            page = await self._call("GET", path + _query(limit=PAGE, cursor=cursor), None, Json)
            for each in page[what]:
                yield each
            if (cursor := page.get("next")) is None:
                return


def _query(**given: Any) -> str:
    """The query of what is not None."""
    found = {name: value for name, value in given.items() if value is not None}
    return "?" + urlencode(found, doseq=True) if found else ""


def _trying(dry_run: bool) -> str:
    return "?dry_run=true" if dry_run else ""


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": str(version)}


def _when(given: str | datetime | timedelta | None) -> str | None:
    """A time or a duration as the server takes it."""
    if isinstance(given, timedelta):
        return f"{given.total_seconds():g}s"
    return given.isoformat() if isinstance(given, datetime) else given
