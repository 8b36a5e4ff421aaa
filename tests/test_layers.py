"""Arrows point one way: a module imports only from floors below its own. A new arrow is a change to this file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up; modules of one floor do not import each other.
FLOORS = (
    {"bandit", "bandit.errors", "bandit.keys", "bandit.times"},
    {"bandit.sums"},
    {"bandit.linear"},
    {"bandit.scoring", "bandit.draw"},
    {"bandit.policies", "bandit.features"},
    {"bandit.experiment"},
    {"bandit.engine", "bandit.log"},
    {"bandit.fold", "bandit.store"},
    {"bandit.memory_append", "bandit.redis_faults", "bandit.redis_wire"},
    {
        "bandit.machine",
        "bandit.memory_store",
        "bandit.redis_store",
        "bandit.checkpoint",
        "bandit.export",
        "bandit.recent",
        "bandit.sizing",
    },
    {"bandit.replica", "bandit.trim", "bandit.verify", "bandit.requests"},
    {
        "bandit.evaluation",
        "bandit.follower",
        "bandit.lane",
        "bandit.documents",
        "bandit.settings",
        "bandit.datadir",
        "bandit.client",
    },
    {"bandit.service", "bandit.embedded", "bandit.telling"},
    {"bandit.api", "bandit.api.problems", "bandit.api.body", "bandit.api.wire", "bandit.commands"},
    {"bandit.api.answers", "bandit.api.deadline", "bandit.doctor", "bandit.workers"},
    {"bandit.api.docs", "bandit.supervisor", "bandit.demo.child", "bandit.demo.results"},
    {"bandit.api.native", "bandit.demo.show"},
    {"bandit.api.app", "bandit.demo.drive"},
    {"bandit.worker", "bandit.demo"},
    {"bandit.__main__"},
)
# The simulator stands on the server's engine; nothing of the server but the demo and the evaluation stands on it.
SIMULATOR = (
    {"simulator.wording"},
    {
        "simulator",
        "simulator.adapters",
        "simulator.cli",
        "simulator.cli.common",
        "simulator.contexts",
        "simulator.datasets",
        "simulator.environments",
        "simulator.environments.episode",
        "simulator.estimators",
        "simulator.learners",
        "simulator.logged",
        "simulator.output",
        "simulator.progress",
        "simulator.reporting.guide",
    },
    {
        "simulator.cli.judging",
        "simulator.cli.place",
        "simulator.cli.source",
        "simulator.environments.full",
        "simulator.environments.synthetic",
        "simulator.intervals",
        "simulator.learners.protocol",
        "simulator.limits",
        "simulator.lists",
        "simulator.reporting.segments",
        "simulator.spread",
        "simulator.table",
        "simulator.verdict",
    },
    {"simulator.balance"},
    {
        "simulator.cli.logs",
        "simulator.cli.runs",
        "simulator.design",
        "simulator.moving",
        "simulator.adapters.library",
        "simulator.bridge",
        "simulator.clean",
        "simulator.cluster",
        "simulator.learners.baselines",
        "simulator.learners.engine",
        "simulator.learners.logs",
        "simulator.models",
        "simulator.play",
        "simulator.sample_ratio",
        "simulator.storage",
    },
    {
        "simulator.additive",
        "simulator.environments.fitted",
        "simulator.loaders.csv_text",
        "simulator.problem",
        "simulator.reasons",
    },
    {
        "simulator.__main__",
        "simulator.adapters.collaborative",
        "simulator.adapters.peers",
        "simulator.adapters.vw",
        "simulator.loaders.csv_blocks",
        "simulator.loaders.csv_numbers",
        "simulator.loaders.csv_roles",
        "simulator.loaders.csv_times",
        "simulator.loaders.repeats",
        "simulator.loaders.rows",
        "simulator.terms",
    },
    {"simulator.environments.tables", "simulator.loaders.csv_source"},
    {
        "simulator.environments.named",
        "simulator.evaluation",
        "simulator.loaders.criteo",
        "simulator.loaders.csv",
        "simulator.loaders.dsjson",
        "simulator.loaders.server",
        "simulator.loaders.vw",
        "simulator.specs",
    },
    {
        "simulator.differences",
        "simulator.loaders.open_bandit",
        "simulator.replaying",
        "simulator.runs",
        "simulator.targets",
    },
    {
        "simulator.alone",
        "simulator.comparison",
        "simulator.listed",
        "simulator.live",
        "simulator.lived",
        "simulator.loaders",
        "simulator.replay_dr",
        "simulator.reporting.contrasts",
        "simulator.reporting.doubts",
        "simulator.reporting.words",
        "simulator.sample_size",
        "simulator.selection",
    },
    {"simulator.conversion", "simulator.reporting.figures", "simulator.sweeps"},
    {"simulator.reporting.subject", "simulator.streaming"},
    {"simulator.reporting.basis", "simulator.reporting.sections"},
    {"simulator.reporting"},
)
PURE = {module for floor in FLOORS[:8] for module in floor} - {"bandit.store"}
IMPURE = {"redis", "fastapi", "starlette", "uvicorn", "time", "random", "secrets", "os", "asyncio", "logging", "socket"}
LEVEL = {module: level for level, floor in enumerate(FLOORS + SIMULATOR) for module in floor}


PACKAGES = {
    "bandit", "bandit.api", "bandit.demo", "simulator", "simulator.cli", "simulator.adapters", "simulator.environments",
    "simulator.learners",
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours, with its file."""
    for package in ("bandit", "simulator"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imports(path: Path, *, lazy: bool) -> set[str]:
    """The modules that a file imports: at its top, or with `lazy` inside its functions too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazy else _top(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & set(LEVEL)
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


def ours(names: set[str]) -> set[str]:
    """Those of ours, without the packages that only hold others."""
    return {name for name in names if name in LEVEL} - PACKAGES


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value).split("/")[-1])
def test_a_module_imports_only_from_floors_below(name: str, path: Path) -> None:
    """Every import at a module's top points down; `__main__` alone reaches everything, lazily."""
    assert name in LEVEL, f"{name} stands on no floor: give it one here"
    wrong = {other for other in ours(imports(path, lazy=False)) if LEVEL[other] >= LEVEL[name]}
    assert not wrong, f"{name} imports {sorted(wrong)}, which do not stand below it"


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_pure_floors_know_no_clock_no_chance_and_no_network(name: str) -> None:
    """Below the stores nobody imports time, randomness, the environment or a network library."""
    path = dict(modules())[name]
    used = {other.partition(".")[0] for other in imports(path, lazy=True)}
    assert not used & IMPURE


def test_bandit_imports_the_simulator_only_lazily_in_the_demo_and_the_evaluation() -> None:
    """Whoever only decides and learns does not load it."""
    for name, path in modules():
        if name.startswith("bandit"):
            assert not {n for n in imports(path, lazy=False) if n.partition(".")[0] == "simulator"}, name
            if not name.startswith("bandit.demo") and name != "bandit.evaluation":
                assert not {n for n in imports(path, lazy=True) if n.partition(".")[0] == "simulator"}, name
