"""What a server does past its capacity: how much it still serves, and how long those wait whom it serves.

The server (one worker) and its store have one core, the load the other. Requests come open-loop (`open_loop.c`,
compiled here by the C compiler there is): as a Poisson process, over many connections, whether or not earlier ones
have been answered, and a request's time counts from when it was due; the first second, in which a burst is still let
in, is left out. Capacity is what the server answers when it is kept busy by 32 requests under way at a time
(`load.py`). Then 0.5, 0.9, 1, 2 and 4 times as much comes, in turn, some rounds over; figures are medians over them.

`overload_4x_goodput_of_1x` is the successes a second at 4 times the capacity over those at 1; `overload_4x_p99_of_0_9x`
the successes' p99 over that at 0.9. An experiment of 1,000 arms and 64 features (`heavy`), whose decisions cost what a
large shop's do, and one of 100 arms and 32 features, for which reading and refusing a request costs more of a decision.

Run: python benchmarks/overload.py [--json] [--rounds 3] [--seconds 5] [--connections 1000] [--only heavy]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from http_ladder import LOAD, SERVER, Load, environment, on_core
from load import Asked

PATH = "/v1/experiments/e/recommendations"
TIMES = 0.5, 0.9, 1.0, 2.0, 4.0
SIZES = {"heavy": (1000, 64), "light": (100, 32)}  # arms, features
TARGETS = {"overload_4x_goodput_of_1x": 0.85, "overload_4x_p99_of_0_9x": 2.0}


@contextmanager
def server(name: str) -> Iterator[int]:
    """A server on one core with its store: its port."""
    arms, features = SIZES[name]
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        command = [sys.executable, "-m", "bandit", "serve", "--data-dir", f"{folder}/d", "--port", "0"]
        with on_core(SERVER):
            process = subprocess.Popen(
                command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, env=environment()
            )
        try:
            assert process.stdout is not None
            address = next(line for line in process.stdout if "ready on " in line).split("ready on ")[1].split()[0]
            warm_up(address.rstrip("/"), arms, features)
            yield int(address.rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()
            process.wait()


def warm_up(address: str, arms: int, features: int) -> None:
    """Make the experiment, and let it learn a little."""
    declared = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(features - 1)]
    document = {"features": declared, "arms": [f"arm-{i}" for i in range(arms)], "rewards": {"click": {}}}
    with httpx.Client(base_url=f"{address}/v1/experiments", timeout=60) as client:
        client.put("/e", json=document).raise_for_status()
        for body in bodies(features, 2):
            requests = [json.loads(body)] * 200
            client.post("/e/recommendations/batch", json={"requests": requests}).raise_for_status()


def bodies(features: int, count: int) -> list[str]:
    """Requests of independent normal features."""
    rows = np.random.default_rng(2).normal(size=(count, features - 1)).tolist()
    return [json.dumps({"context": {f"f{i}": round(v, 4) for i, v in enumerate(row)}}) for row in rows]


class Open:
    """The open-loop generator, compiled."""

    def __init__(self, folder: Path, port: int, features: int) -> None:
        self.program, self.file, self.port = folder / "open_loop", folder / f"requests-{features}", port
        source = str(Path(__file__).with_name("open_loop.c"))
        if not self.program.exists():
            subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(self.program), source, "-lm"], check=True)
        head = (
            "POST /v1/experiments/e/recommendations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        )
        whole = [f"{head}content-length: {len(body)}\r\n\r\n{body}" for body in bodies(features, 64)]
        self.file.write_text("".join(f"{len(each)}\n{each}" for each in whole), newline="")

    def found(self, rate: float, seconds: float, connections: int) -> dict[str, Any]:
        """What came of so many requests a second."""
        command = [str(self.program), str(self.port), str(self.file), f"{rate:.1f}", str(seconds), str(connections)]
        with on_core(LOAD):
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found: dict[str, Any] = json.loads(said)
        return found | {"goodput": found["successes"] / seconds, "rate": rate}


def capacity(load: Load, port: int, features: int, seconds: float) -> float:
    """Requests a second that are answered while 32 are under way."""
    asked = Asked(port, PATH, bodies(features, 64), 32, seconds)
    found = load.ask(asked)
    return float(found.requests) / float(found.seconds)


def measured(name: str, load: Load, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one experiment: medians over the rounds."""
    features, rounds = SIZES[name][1], []
    with tempfile.TemporaryDirectory() as folder, server(name) as port:
        generator = Open(Path(folder), port, features)
        capacity(load, port, features, 1.0)
        for _ in range(arguments.rounds):
            time.sleep(2)  # what the last one left in the sockets is refused meanwhile
            most = capacity(load, port, features, arguments.seconds)
            each = {x: generator.found(x * most, arguments.seconds, arguments.connections) for x in TIMES}
            rounds.append((most, each))
            for x, found in each.items():
                print(f"{name} {x:g}x of {most:.0f}/s: {json.dumps(found)}", file=sys.stderr, flush=True)

    def middle(key: str, x: float) -> float:
        return float(statistics.median(each[x][key] for _, each in rounds))

    prefix = "overload" if name == "heavy" else f"overload_{name}"
    figures = {f"{prefix}_capacity": statistics.median(most for most, _ in rounds)}
    for x in TIMES:
        told = f"{x:g}".replace(".", "_")
        figures |= {f"{prefix}_{told}x_goodput": middle("goodput", x), f"{prefix}_{told}x_p99": middle("p99", x)}
        figures |= {f"{prefix}_{told}x_refused_p99": middle("refused_p99", x)}
        figures |= {f"{prefix}_{told}x_unsent": middle("unsent", x) / (x * figures[f"{prefix}_capacity"])}
    goodput = [each[4.0]["goodput"] / each[1.0]["goodput"] for _, each in rounds]
    p99 = [each[4.0]["p99"] / each[0.9]["p99"] for _, each in rounds]
    figures[f"{prefix}_4x_goodput_of_1x"] = statistics.median(goodput)
    figures[f"{prefix}_4x_p99_of_0_9x"] = statistics.median(p99)
    return figures


UNITS = {"capacity": "1/s", "goodput": "1/s", "p99": "ms", "unsent": "s of load"}


def main() -> None:
    """Print the figures, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--only", choices=sorted(SIZES))
    arguments = parser.parse_args()
    load = Load()
    settings = {"connections": arguments.connections, "seconds": arguments.seconds, "rounds": arguments.rounds}
    try:
        for name in [arguments.only] if arguments.only else SIZES:
            sizes = dict(zip(("arms", "features"), SIZES[name], strict=True))
            for figure, value in measured(name, load, arguments).items():
                unit = "ratio" if "_of_" in figure else UNITS[figure.rpartition("_")[2]]
                row = {"name": figure, "value": value, "unit": unit, "target": TARGETS.get(figure)}
                print(
                    json.dumps(row | {"settings": settings | sizes})
                    if arguments.json
                    else f"{figure}: {value:.4g} {unit}"
                )
    finally:
        load.close()


if __name__ == "__main__":
    main()
