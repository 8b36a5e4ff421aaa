"""Rooms, and which way imports go between them. A new arrow is a change to this file, with its reason.

Within a room a module may import any other, as long as no circle comes about.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# each room with the rooms that it may import at its modules' top; those on the right stand below it
ROOMS: dict[str, tuple[str, ...]] = {
    "bandit.base": (),
    "bandit.client": (),  # for other programs: it stands alone
    "bandit.telemetry": ("bandit.base",),
    "bandit.core": ("bandit.base",),
    "bandit.log": ("bandit.base", "bandit.core"),
    "bandit.store": ("bandit.base", "bandit.core", "bandit.log"),
    "bandit.access": ("bandit.base", "bandit.core", "bandit.store"),
    "bandit.replica": ("bandit.base", "bandit.telemetry", "bandit.core", "bandit.log", "bandit.store"),
    "bandit.archive": ("bandit.base", "bandit.core", "bandit.log", "bandit.store", "bandit.replica"),
    "bandit.serving": (
        "bandit.base", "bandit.telemetry", "bandit.core", "bandit.log", "bandit.store", "bandit.replica",
        "bandit.access",
    ),
    "bandit.process": ("bandit.base", "bandit.telemetry", "bandit.serving", "bandit.store", "bandit.access"),
    "bandit.commands": (
        "bandit.base", "bandit.client", "bandit.core", "bandit.log", "bandit.store", "bandit.replica", "bandit.process",
        "bandit.access", "bandit.archive",
    ),
    "bandit.top": ("bandit.base", "bandit.process", "bandit.commands"),  # a group of commands is a module there
    "simulator.base": (),
    "simulator.logs": ("simulator.base", "bandit.base", "bandit.core", "bandit.replica"),
    "simulator.ope": ("simulator.base", "simulator.logs", "bandit.base", "bandit.core"),
    "simulator.environments": ("simulator.base", "simulator.logs", "bandit.base", "bandit.core"),
    "simulator.policies": (
        "simulator.base", "simulator.logs", "simulator.ope", "simulator.environments", "bandit.base", "bandit.core",
    ),
    "simulator.studies": (
        "simulator.base", "simulator.logs", "simulator.ope", "simulator.environments", "simulator.policies",
        "bandit.base", "bandit.core",
    ),
    "simulator.reporting": (
        "simulator.base", "simulator.logs", "simulator.ope", "simulator.studies", "bandit.base", "bandit.core",
    ),
    "simulator.cli": ("simulator.base", "simulator.logs", "simulator.ope", "bandit.base"),  # more when a command runs
    "simulator.live": (  # the server's evaluation, a program of its own
        "simulator.base", "simulator.logs", "simulator.ope", "simulator.policies",
        "bandit.base", "bandit.core", "bandit.log", "bandit.store", "bandit.replica", "bandit.serving",
    ),
    "simulator.top": ("simulator.base", "simulator.cli", "bandit.base"),
}  # fmt: skip
BASE = {"bandit", "bandit.arrays", "bandit.errors", "bandit.settings", "bandit.telling"}
SIMULATOR_BASE = {"simulator", "simulator.progress", "simulator.wording"}
# What may know the clock, chance, the environment or a network: everything but these.
PURE = ("bandit.core", "bandit.log")
IMPURE = {"redis", "fastapi", "starlette", "uvicorn", "time", "random", "secrets", "os", "asyncio", "logging", "socket"}
# Commands reach for what they need when they run; nothing else imports above itself even then.
LAZY = ("bandit.top", "bandit.commands", "bandit.process", "simulator.cli", "simulator.base", "simulator.logs")


def room_of(module: str) -> str:
    """The room of a module of ours."""
    if module in BASE:
        return "bandit.base"
    if module in SIMULATOR_BASE:
        return "simulator.base"
    package, _, rest = module.partition(".")
    name = f"{package}.{rest.partition('.')[0]}"
    return f"{package}.top" if rest == "__main__" else name


def modules() -> dict[str, Path]:
    """Every module of ours, with its file."""
    paths = [path for package in ("bandit", "simulator") for path in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = modules()


def imports(path: Path, *, lazy: bool) -> set[str]:
    """The modules that a file imports: at its top, or with `lazy` inside its functions too."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree) if lazy else _top(tree.body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inner or {node.module}
    return found


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module's body, also under its conditions, but not those for the type checker only."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for part in ("body", "orelse", "handlers"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _top(getattr(node, part, []))


def test_imports_go_one_way_between_rooms() -> None:
    """Every import at a module's top is of its own room, or of one that its room may import."""
    wrong = []
    for module, path in MODULES.items():
        room = room_of(module)
        wrong += [
            f"{module} ({room}) imports {other} ({room_of(other)})"
            for other in sorted(imports(path, lazy=False) & MODULES.keys())
            if room_of(other) not in (room, *ROOMS[room])
        ]
    assert not wrong, "\n".join(wrong)


def test_what_a_room_may_import_stands_below_it() -> None:
    """The rules themselves have no circle: rooms are listed from the ground up."""
    order = {room: i for i, room in enumerate(ROOMS)}
    assert [f"{room} -> {other}" for room in ROOMS for other in ROOMS[room] if order[other] >= order[room]] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Also within a room: whoever reads a file can read what it stands on first."""
    graph = {name: imports(path, lazy=False) & MODULES.keys() - {name} for name, path in MODULES.items()}
    circles, done = [], set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circles.append(" -> ".join((*above[above.index(name) :], name)))
        elif name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert not circles, "\n".join(circles)


def test_imports_inside_functions_do_not_go_up_either() -> None:
    """But for commands, which import what they need when they run, and the loader that reads a server's log."""
    order, wrong = {room: i for i, room in enumerate(ROOMS)}, []
    for module, path in MODULES.items():
        room = room_of(module)
        wrong += [
            f"{module} ({room}) imports {other} ({room_of(other)})"
            for other in sorted(imports(path, lazy=True) & MODULES.keys())
            if room not in LAZY and order[room_of(other)] > order[room]
        ]
    assert not wrong, "\n".join(wrong)


def test_the_pure_rooms_know_no_clock_no_chance_and_no_network() -> None:
    """Below the stores nobody imports time, randomness, the environment or a network library."""
    wrong = [
        f"{module}: {sorted(used)}"
        for module, path in MODULES.items()
        if room_of(module) in PURE
        and (used := {other.partition(".")[0] for other in imports(path, lazy=True)} & IMPURE)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_server_imports_the_simulator_in_the_demo_only() -> None:
    """Whoever only decides and learns does not load it."""
    for module, path in MODULES.items():
        if module.startswith("bandit") and not module.startswith("bandit.commands.demo"):
            assert not {other for other in imports(path, lazy=True) if other.partition(".")[0] == "simulator"}, module


def test_rooms_are_small_and_say_what_they_are() -> None:
    """Up to 14 modules a room, up to 400 lines a file, and two to five lines on what it imports and where to begin."""
    folders = {path.parent for path in MODULES.values()}
    crowded = {str(f.relative_to(ROOT)): n for f in folders if (n := len(list(f.glob("[!_]*.py")))) > 14}
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 400}
    assert (crowded, long) == ({}, {})
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name not in ("bandit", "simulator"):  # which are no rooms
            told = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert 2 <= len([line for line in told.splitlines() if line]) <= 5, name
            assert re.search(r"\bImports\s", told), name
            assert re.search(r"\bBegin\s+with\s", told), name


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import simulator", {"matplotlib", "sklearn", "pandas", "scipy", "pyarrow", "vowpalwabbit", "jinja2"}),
        ("from simulator import compare", {"matplotlib", "jinja2", "sklearn"}),
        ("import simulator.live", {"matplotlib", "sklearn", "scipy", "pyarrow", "jinja2", "rich"}),  # servers have none
        ("from bandit.__main__ import app", {"fastapi", "redis", "simulator", "matplotlib", "numpy"}),
    ],
)
def test_what_is_not_needed_is_not_loaded(code: str, unwanted: set[str]) -> None:
    """A command starts quickly: plots, models and tables are loaded by who draws, fits or reads them."""
    program = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not unwanted & set(loaded)
