"""What a decision costs over HTTP, beside what HTTP costs: bare ASGI, an empty FastAPI endpoint, and ours.

One core for the server, the other for the load (`load.py`) and our store. All stand behind the same uvicorn (uvloop,
httptools, no access log) and take the same request: a context of 31 numbers. The bare application reads it and answers
a constant; the FastAPI endpoint has its models checked by pydantic, in and out, and does nothing; ours validates,
encodes, scores 100 arms x 32 features, draws, writes the decision to the log and answers. Rungs are measured in turn,
round by round: a figure is the median over the rounds, a ratio the median of each round's ratio.

`live` is the same server with an experiment that uses what live traffic has: three slices, a user in every request,
conditions on two attributes for half of the arms, and dates. (Not `sticky`, which answers without deciding.)

`keys` is `full` with API keys on, and one in every request.

`_cpu` ratios compare the processor's time of the serving process a request, so they leave out who had to wait.

Run: python benchmarks/http_ladder.py [--json] [--rounds 5] [--seconds 2] [--only full,bare]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import uvicorn
from fastapi import FastAPI
from load import BOTTLENECK, Asked, Found
from pydantic import BaseModel

KEY = "bs_benchmark0_" + "0123456789" * 4 + "abc"  # of a server that lives for a minute
ARMS, FEATURES = 100, 32
CONNECTIONS = 1, 16, 64
CONTEXTS = 64  # different ones
WARM_UP = 3000  # decisions with feedback before the first measurement
FEEDBACK = 15_000  # decisions that are each given feedback once in a round
SERVER, LOAD = {0}, {1}  # cores
SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would slow the matrix products down
TARGETS = {
    "http_full_of_bare": 0.45,
    "http_full_of_empty_fastapi": 2.5,
    "http_1_of_empty_fastapi": 1.0,
    "http_p99_16_of_bare": 3.0,
    "feedback_of_bare": 0.40,
    "http_keys_of_full": 0.93,
    "batch_decisions_per_s": 60_000.0,
}
RATIOS = {
    "http_full_of_bare": ("full_64", "bare_64", "per_s", 1),
    "http_full_of_bare_cpu": ("full_64", "bare_64", "cpu_us", -1),
    "http_full_of_empty_fastapi": ("full_64", "fastapi_64", "per_s", 1),
    "http_1_of_empty_fastapi": ("full_1", "fastapi_1", "per_s", 1),
    "http_16_of_bare": ("full_16", "bare_16", "per_s", 1),
    "http_p99_16_of_bare": ("full_16", "bare_16", "p99_ms", 1),
    "feedback_of_bare": ("feedback_64", "bare_64", "per_s", 1),
    "http_keys_of_full": ("keys_64", "full_64", "per_s", 1),
    "http_keys_of_full_cpu": ("keys_64", "full_64", "cpu_us", -1),
    "http_live_of_full": ("live_64", "full_64", "per_s", 1),
    "http_live_of_full_cpu": ("live_64", "full_64", "cpu_us", -1),
}
ATTRIBUTES = {"country": "de", "basket": 30}
SLICES = {
    "learned": {},
    "random": {"share": 0.05, "policy": {"type": "uniform"}},
    "challenger": {"share": 0.05, "policy": {"type": "linucb", "alpha": 0.5}},
}
ANSWER = {
    "decision_id": "~AQAAAZrS5wYcAAAAANN5dM1E5Cg5", "experiment_version": 1, "model_position": "1764140525340-12",
    "arms": [
        {"arm": "arm-17", "propensity": 0.9802, "score": 0.131, "estimates": {"click": {"mean": 0.1, "width": 0.4}}}
    ],
    "replayed": False, "logged": True, "expires_at": "2026-11-27T08:22:05.340Z",
}  # fmt: skip


class Context(BaseModel):
    """A request, as pydantic reads it."""

    context: dict[str, float]


class Arm(BaseModel):
    """An arm, as pydantic writes it."""

    arm: str
    propensity: float
    score: float
    estimates: dict[str, dict[str, float]]


class Answer(BaseModel):
    """An answer, as pydantic writes it."""

    decision_id: str
    arms: list[Arm]
    experiment_version: int
    model_position: str
    replayed: bool
    logged: bool
    expires_at: str


async def bare(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Reads a request and answers a constant."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


_BODY = json.dumps(ANSWER, separators=(",", ":")).encode()
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


def empty() -> FastAPI:
    """An endpoint that has its request and answer checked, and does nothing."""
    app = FastAPI()

    @app.post("/decide")
    async def decide(request: Context) -> Answer:
        return _ANSWER

    return app


_ANSWER = Answer.model_validate(ANSWER)


def serve(which: str, descriptor: int) -> None:
    """Serve one of the two on an inherited socket."""
    app: Any = bare if which == "bare" else empty()
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", lifespan="off", access_log=False, log_level="error",
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


class Rung:
    """Something that serves: where, and by which processes."""

    def __init__(self, name: str, port: int, pids: list[int], path: str) -> None:
        self.name, self.port, self.pids, self.path = name, port, pids, path
        self.key = KEY if name == "keys" else ""

    def bodies(self) -> list[str]:
        """What it is asked."""
        asked = contexts(np.random.default_rng(2), CONTEXTS)
        if self.name == "live":
            asked = [{"context": each["context"] | ATTRIBUTES, "user_id": f"u{i}"} for i, each in enumerate(asked)]
        return [json.dumps(each) for each in asked]

    def cpu(self) -> float:
        """Seconds of the processor that its processes have taken."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def on_core(cores: set[int]) -> Iterator[None]:
    """What is started here runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment(name: str = "") -> dict[str, str]:
    """One thread for BLAS, and its own idea of the processor; of `keys` API keys, of which there is one."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    keys = {"BANDIT_AUTH": "on", "BANDIT_ADMIN_KEY": KEY} if name == "keys" else {}
    return {**kept, **keys, "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def peer(which: str) -> Iterator[Rung]:
    """The bare application, or the empty endpoint."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, on_core(SERVER):
        listener.set_inheritable(True)
        command = [sys.executable, __file__, "--serve", which, str(listener.fileno())]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], env=environment())
        try:
            yield Rung(which, listener.getsockname()[1], [process.pid], "/decide")
        finally:
            process.terminate()
            process.wait()


@contextmanager
def ours(workers: int = 1, name: str = "full") -> Iterator[Rung]:
    """A server of ours with an experiment that has learned a little; `live`: one that uses what live traffic has."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        command = [sys.executable, "-m", "bandit", "serve", "--data-dir", f"{folder}/d", "--port", "0"]
        command += ["--workers", str(workers)]
        with on_core(SERVER):
            process = subprocess.Popen(
                command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, env=environment(name)
            )
        try:
            assert process.stdout is not None
            address = next(line for line in process.stdout if "ready on " in line).split("ready on ")[1].split()[0]
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            pids = []
            for child in map(int, children):
                if "bandit.process.worker" in Path(f"/proc/{child}/cmdline").read_text():
                    pids.append(child)
                else:  # the store
                    for task in Path(f"/proc/{child}/task").iterdir():
                        os.sched_setaffinity(int(task.name), LOAD)
            port = int(address.rstrip("/").rpartition(":")[2])
            rung = Rung(name, port, pids, "/v1/experiments/e/recommendations")
            warm_up(address, rung.key)
            if name == "live":
                go_live(address)
            yield rung
        finally:
            process.terminate()
            process.wait()


def warm_up(address: str, key: str = "") -> None:
    """Make the experiment, and let it learn; a server with keys knows its first one a moment after it is ready."""
    headers = {"x-api-key": key} if key else {}
    while key and httpx.get(f"{address.rstrip('/')}/v1/whoami", headers=headers).status_code != 200:
        time.sleep(0.1)
    features = [{"name": f"f{i}", "type": "number", "mean": 0, "scale": 1} for i in range(FEATURES - 1)]
    document = {"features": features, "arms": [f"arm-{i}" for i in range(ARMS)], "rewards": {"click": {}}}
    with httpx.Client(base_url=f"{address.rstrip('/')}/v1/experiments", timeout=60, headers=headers) as client:
        client.put("/e", json=document).raise_for_status()
        rng = np.random.default_rng(1)
        for _ in range(WARM_UP // 1000):
            decided = client.post("/e/recommendations/batch", json={"requests": contexts(rng, 1000)}).raise_for_status()
            rewarded = [
                {"decision_id": each["decision_id"], "event": "click", "value": 1}
                for each in decided.json()["results"]
                if rng.random() < 0.1
            ]
            client.post("/e/feedback/batch", json={"requests": rewarded}).raise_for_status()


def go_live(address: str) -> None:
    """Use slices, attributes, conditions and dates in the experiment."""
    limits = {"when": {"country": ["de", "fr"], "basket": {"min": 20}}, "until": "2090-01-01T00:00:00Z"}
    arms = [{"id": f"arm-{i}", **(limits if i % 2 else {})} for i in range(ARMS)]
    change = {"arms": arms, "slices": SLICES, "attributes": list(ATTRIBUTES)}
    url = f"{address.rstrip('/')}/v1/experiments/e"
    httpx.patch(url, json=change, timeout=60).raise_for_status()


def contexts(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Requests of independent normal features."""
    return [{"context": {f"f{i}": round(v, 4) for i, v in enumerate(row)}} for row in rng.normal(size=(n, 31)).tolist()]


class Load:
    """The load generator's process."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("load.py"))]
        with on_core(LOAD):
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, asked: Asked) -> Found:
        """One measurement."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(msgspec.json.encode(asked) + b"\n")
        self.process.stdin.flush()
        found = msgspec.json.decode(self.process.stdout.readline(), type=Found)
        if found.statuses.keys() != {200}:
            raise RuntimeError(f"{asked.path} answered {found.statuses}")
        if found.busy > BOTTLENECK:
            print(f"the load is the bottleneck: {found.busy:.0%} of its core ({asked.path})", file=sys.stderr)
        return found

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


Measured = dict[str, dict[str, float]]  # rung and connections -> what was measured


def round_of(load: Load, rungs: list[Rung], seconds: float) -> Measured:
    """Every rung at every number of connections, then feedback and batches."""
    found: Measured = {}
    for connections in CONNECTIONS:
        for rung in rungs:
            found[f"{rung.name}_{connections}"] = one(
                load, rung, Asked(rung.port, rung.path, rung.bodies(), connections, seconds, key=rung.key)
            )
    for rung in rungs:
        if rung.name == "full":
            found["feedback_64"] = feedback(load, rung)
            asked = [json.dumps({"requests": contexts(np.random.default_rng(i), 100)}) for i in range(8)]
            found["batch_2"] = one(load, rung, Asked(rung.port, f"{rung.path}/batch", asked, 2, seconds))
    return found


def one(load: Load, rung: Rung, asked: Asked) -> dict[str, float]:
    """Requests a second, latencies, and the server's processor time."""
    before = rung.cpu()
    found = load.ask(asked)
    cpu = (rung.cpu() - before) / found.requests * 1e6
    rate = found.requests / found.seconds
    return {
        "per_s": rate,
        "cpu_us": cpu,
        "p50_ms": found.p50,
        "p95_ms": found.p95,
        "p99_ms": found.p99,
        "busy": found.busy,
    }


def feedback(load: Load, rung: Rung) -> dict[str, float]:
    """Feedback on as many decisions, one each."""
    made = os.urandom(6).hex()
    with httpx.Client(base_url=f"http://127.0.0.1:{rung.port}/v1/experiments", timeout=60) as client:
        for at in range(0, FEEDBACK, 1000):
            asked = [
                {**each, "decision_id": f"{made}-{at + i}"}
                for i, each in enumerate(contexts(np.random.default_rng(at), 1000))
            ]
            client.post("/e/recommendations/batch", json={"requests": asked}).raise_for_status()
    bodies = [json.dumps({"decision_id": f"{made}-{i}", "event": "click", "value": 1}) for i in range(FEEDBACK)]
    return one(load, rung, Asked(rung.port, "/v1/experiments/e/feedback", bodies, 64, 60, once=True))


def figures(rounds: list[Measured]) -> Iterator[dict[str, Any]]:
    """Every rung's own figures, then the ratios."""
    settings = {"arms": ARMS, "features": FEATURES, "rounds": len(rounds), "cores": 1}

    def figure(name: str, values: list[float], unit: str) -> dict[str, Any]:
        value = float(f"{statistics.median(values):.4g}")
        return {"name": name, "value": value, "unit": unit, "target": TARGETS.get(name), "settings": settings}

    for rung in rounds[0]:
        for what in rounds[0][rung]:
            unit = {"s": "1/s", "busy": "of the load's core"}.get(last := what.rpartition("_")[2], last)
            yield figure(f"{rung}_{what}", [each[rung][what] for each in rounds], unit)
    for name, (mine, theirs, what, power) in RATIOS.items():
        if {mine, theirs} <= rounds[0].keys():
            yield figure(name, [(each[mine][what] / each[theirs][what]) ** power for each in rounds], "ratio")
    if "batch_2" in rounds[0]:
        yield figure("batch_decisions_per_s", [100 * each["batch_2"]["per_s"] for each in rounds], "1/s")


def table(found: list[dict[str, Any]]) -> str:
    """The figures for reading; one that misses its target is marked."""
    lines = []
    for each in found:
        at_most = "p99" in each["name"]
        target = each["target"]
        missed = target is not None and (each["value"] > target if at_most else each["value"] < target)
        aim = (
            "" if target is None else f"{'at most' if at_most else 'at least'} {target:g}{'  MISSED' if missed else ''}"
        )
        lines.append(f"{each['name']:<30}{each['value']:>10g} {each['unit']:<6}{aim}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--only", default="bare,fastapi,full,live,keys", help="rungs")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve[0], int(asked.serve[1]))
        return
    with ExitStack() as stack:
        names = asked.only.split(",")
        rungs = [stack.enter_context(ours(name=n) if n in ("full", "live", "keys") else peer(n)) for n in names]
        load = Load()
        stack.callback(load.close)
        for rung in rungs:  # first requests are slower
            one(load, rung, Asked(rung.port, rung.path, rung.bodies(), 8, 0.5, key=rung.key))
        rounds = []
        for number in range(asked.rounds):
            print(f"round {number + 1} of {asked.rounds} ...", file=sys.stderr)
            rounds.append(round_of(load, rungs, asked.seconds))
    found = list(figures(rounds))
    print("\n".join(map(json.dumps, found)) if asked.json else table(found), flush=True)


if __name__ == "__main__":
    main()
