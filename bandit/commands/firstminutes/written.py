"""An experiment's document as TOML with comments: what a person reads, edits and keeps in version control."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")
WIDTH = 100  # of a comment, and of a list on one line

HEAD = """
The experiment {name}: what there is to choose from, what is to be earned, and what a context consists of. All settings:
docs/experiments.md; those of the experiment itself stand above the first line in brackets. After a change,
`bandit-server apply {file}` shows what it would do, and asks."""
ARMS = """
What there is to choose from. One that is left out is retired: never shown again, and what it has learned is kept. More
about one: {{ id = "b", status = "paused", payload = {{ title = "Sun" }} }} in its place."""
WINDOW = (
    'How long after a decision its feedback counts: as long as rewards take to come, as "90s", "15m", "12h" or "7d".'
)
POLICY = "How it chooses; both settings may be changed at any time, and nothing is forgotten."
ALPHA = "how much uncertainty counts: more tries arms for longer"
EXPLORE = "the share of decisions spread evenly (0 to 1), by which the log can tell what others would have earned"
REWARDS = """
What is to be earned: the kinds of feedback by name, each with what one is worth (weight). An amount needs a range; what
is beyond it is refused, or cut with over_range = "clip"."""
FEATURES = """
What a context consists of; every request has a value for each, but where `missing` says what stands for none. Features
may come and go at any time; one of another scale or type begins anew (`apply --reset`)."""
NONE = """
A context has nothing yet, so every visitor is alike. For example:
[[features]]
type = "category"
name = "device"
levels = ["phone", "desktop"]"""


def written(
    name: str, file: str, document: Mapping[str, Any], why: Mapping[str, str], notes: Sequence[str] = ()
) -> str:
    """The file's text.

    Args:
        name: of the experiment.
        file: the file's name, for the comment that says how it is applied.
        document: with `arms`, `rewards` and `features`; the rest is what a server takes by default.
        why: for features and rewards, by name, what their comment says.
        notes: what is to be looked at, for the head.
    """
    arms, window = _value(document["arms"]), _value(document.get("reward_window", "7d"))
    parts = [
        _comment(HEAD.format(name=name, file=file)),
        *(_comment(f"Look at this: {note}.") for note in notes),
        f"\nname = {_value(name)}\n",
        f"{_comment(ARMS.format())}\narms = {arms}\n",
        f"{_comment(WINDOW)}\nreward_window = {window}\n",
        f'{_comment(POLICY)}\n[policy]\ntype = "linucb"\nalpha = "auto"  # {ALPHA}\nexplore = "auto"  # {EXPLORE}\n',
        f"{_comment(REWARDS)}\n",
    ]
    rewards = document["rewards"].items()
    parts += [_table(f"[rewards.{_key(kind)}]", {"weight": 1.0, **told}, why.get(kind, "")) for kind, told in rewards]
    if not document["features"]:
        return "\n".join([*parts, "".join(f"# {line}\n" for line in NONE.strip().split("\n"))])
    parts += [f"{_comment(FEATURES)}\n"]
    parts += [_table("[[features]]", feature, why.get(feature["name"], "")) for feature in document["features"]]
    return "\n".join(parts)


def _table(head: str, fields: Mapping[str, Any], why: str) -> str:
    lines = "".join(f"{_key(name)} = {_value(value)}\n" for name, value in fields.items())
    return (f"{_comment(why)}\n" if why else "") + f"{head}\n{lines}"


def _comment(text: str) -> str:
    """A text as lines of comment; no control character ends one."""
    plain = re.sub(r"[\x00-\x1f\x7f]", " ", text.strip("\n"))
    return "\n".join(f"# {line}" for line in textwrap.wrap(plain, WIDTH))


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    """A value of JSON as one of TOML; null has none there."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        items = [_value(each) for each in value]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= WIDTH else "[\n" + "".join(f"    {line},\n" for line in _lines(items)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def _lines(items: list[str]) -> Iterator[str]:
    """The items, as many on a line as fit."""
    line = ""
    for item in items:
        if line and len(line) + len(item) > WIDTH:
            yield line
            line = ""
        line += (", " if line else "") + item
    yield line
