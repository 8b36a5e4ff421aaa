"""The shape of the code: lengths of functions and files, how much is typed, and the places furthest from the aim."""

import argparse
import ast
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
AIMS = {"function_median": 8, "function_p95": 40, "function_longest": 60, "file_longest": 400, "typed_share": 1.0}


class Function(NamedTuple):
    """One function: how many lines without its docstring, whether it is typed, and where it is."""

    lines: int
    typed: bool
    place: str


def functions(path: Path) -> Iterator[Function]:
    """The functions of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [each for each in arguments if each.arg not in ("self", "cls")]
            typed = node.returns is not None and all(each.annotation for each in named)
            yield Function(lines, typed, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")


def figures() -> tuple[dict[str, float], list[str]]:
    """(each figure, the places beyond its aim)."""
    paths = [path for package in ("bandit", "simulator") for path in sorted((ROOT / package).rglob("*.py"))]
    found = sorted(each for path in paths for each in functions(path))
    files = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in paths}
    lengths = [each.lines for each in found]
    values: dict[str, float] = {
        "function_median": statistics.median(lengths),
        "function_p95": lengths[int(0.95 * len(lengths))],
        "function_longest": lengths[-1],
        "file_longest": max(files.values()),
        "typed_share": sum(each.typed for each in found) / len(found),
    }
    places = [f"{each.lines} lines: {each.place}" for each in found if each.lines > AIMS["function_p95"]]
    places += [f"{lines} lines: {name}" for name, lines in files.items() if lines > AIMS["file_longest"]]
    places += [f"untyped: {each.place}" for each in found if not each.typed]
    return values, places


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    as_json = parser.parse_args().json
    values, places = figures()
    for name, value in values.items():
        unit = "share" if name == "typed_share" else "lines"
        figure = {"name": name, "value": value, "unit": unit, "target": AIMS[name], "settings": {}}
        print(json.dumps(figure) if as_json else f"{name:18} {value:8.4g}   aim {AIMS[name]:g}")
    for place in [] if as_json else places:
        print("  " + place)


if __name__ == "__main__":
    main()
