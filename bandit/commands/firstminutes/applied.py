"""`apply`: puts an experiment's file to a server, after it has shown what would change and been told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bandit.commands.firstminutes.read import Written, read
from bandit.commands.firstminutes.server import Server, refused
from bandit.errors import printable

SHOWN, LONGEST = 100, 60  # changes that are shown, and characters of a value


def apply(
    path: Path,
    server: Server,
    *,
    name: str | None = None,
    reset: bool = False,
    dry_run: bool = False,
    agreed: Callable[[], bool],
    say: Callable[[str], None],
) -> bool:
    """Show what a file would change on a server, and change it: whether it is in force now.

    Args:
        path: the file.
        server: which is asked.
        name: of the experiment, where it is another than the file says.
        reset: whether it may begin anew.
        dry_run: whether it is only shown.
        agreed: asks whether it shall be done.
        say: prints a line.

    Raises:
        ServerError: it cannot be asked, or it refuses; nothing has been changed then.
        Problem, OSError: the file cannot be read.
    """
    written = read(path, name)
    at = server.experiment(written.name)
    now = server.ask("GET", at)
    if now.status not in (200, 404):
        raise refused(now)
    match = {"If_Match": str(now.body["version"])} if now.status == 200 else {}
    query = "reset=true" if reset else ""
    dry = server.ask("PUT", f"{at}?dry_run=true{'&' * bool(query)}{query}", written.document, **match)
    if dry.status != 200:
        raise refused(dry)
    for line in told(written, dry.body, now.body if now.status == 200 else None):
        say(line)
    if not (dry.body["creates"] or dry.body["changes"] or dry.body["starts_from_zero"]):
        return True
    if dry_run or not agreed():
        say("nothing has been changed")
        return dry_run
    done = server.ask("PUT", at + ("?" * bool(query)) + query, written.document, **match)
    if done.status not in (200, 201):
        raise refused(done)
    say(f"{written.name} is live, version {done.body['version']}, at {server.url}{at}")
    if done.status == 201:
        for line in next_steps(server.url + at, done.body, key=server.key is not None):
            say(line)
    return True


def told(written: Written, dry: dict[str, Any], now: dict[str, Any] | None) -> Iterator[str]:
    """What a dry run would change, a line each."""
    if dry["creates"] or now is None:
        parts = [_count(len(written.document.get(part, ())), part) for part in ("arms", "rewards", "features")]
        yield f"{written.name} is new, with {', '.join(parts)}"
        return
    if dry["starts_from_zero"]:
        yield f"{written.name}, version {now['version']}: IT WOULD BEGIN ANEW, and what it has learned would be gone"
    elif not dry["changes"]:
        yield f"{written.name}, version {now['version']}: nothing changes"
    else:
        yield f"{written.name}, version {now['version']}:"
    for change in dry["changes"][:SHOWN]:
        yield f"  {printable(change['pointer'])}  {_from_to(change)}"
    if (more := len(dry["changes"]) - SHOWN) > 0:
        yield f"  and {more} more"


def _count(many: int, what: str) -> str:
    return f"{many} {what[:-1] if many == 1 else what}"


def _from_to(change: dict[str, Any]) -> str:
    before, after = (_short(change[side]) if side in change else None for side in ("before", "after"))
    if before is None:
        return f"new: {after}"
    if after is None:
        arm = change["pointer"].startswith("/arms/") and change["pointer"].count("/") == 2
        return f"retired, was {before}" if arm else f"gone, was {before}"
    return f"{before} -> {after}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")


def next_steps(at: str, experiment: dict[str, Any], *, key: bool = False) -> Iterator[str]:
    """The first decision and its feedback, as a shell takes them; a key is not repeated: it is in BANDIT_API_KEY."""
    headers = "-H 'Content-Type: application/json'" + ' -H "Authorization: Bearer $BANDIT_API_KEY"' * key
    body = json.dumps({"context": example(experiment["features"]), "user_id": "u-1", "decision_id": "first"})
    kind = next(iter(experiment["rewards"]))
    feedback = json.dumps({"decision_id": "first", "event": kind})
    yield "a first decision, and its feedback:"
    yield f"  curl {at}/recommendations {headers} -d {_quoted(body)}"
    yield f"  curl {at}/feedback {headers} -d {_quoted(feedback)}"


def example(features: list[dict[str, Any]]) -> dict[str, Any]:
    """A context of these features."""
    return {each["name"]: _example(each) for each in features if each["type"] not in ("interaction", "fourier")}


def _example(feature: dict[str, Any]) -> Any:
    kind = feature["type"]
    if kind == "number" and (transform := feature.get("transform")):
        return transform["edges"][len(transform["edges"]) // 2]
    if kind == "number":
        return 0 if feature.get("log") else feature.get("mean", feature.get("min", 0))
    if kind == "category":
        return feature["levels"][0]
    return {"boolean": True, "hashed": "one", "vector": [0.0] * feature.get("length", 0)}[kind]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
