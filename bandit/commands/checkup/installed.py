"""Packages and their versions, the event loop, and whether the linear algebra is as quick as this processor can be."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bandit import __version__
from bandit.commands.checkup.finding import Finding

# the versions that are tested, as pyproject.toml has them: the first, and where there is one the first that is not
TESTED: dict[str, tuple[str, str | None]] = {
    "numpy": ("2.0", None),
    "redis": ("5.2", "8.2"),
    "hiredis": ("3.2", None),
    "fastapi": ("0.115", None),
    "uvicorn": ("0.34", "0.55"),
    "httptools": ("0.6.4", None),
    "msgspec": ("0.19", None),
}
SECONDS, SIZE = 0.2, 64  # of the measurement; (SIZE, SIZE) matrices, which are multiplied on one thread
SLOW = 8.0  # 10^9 operations a second of one core; half of what a kernel of 2005 does on a processor of 2020


def installed() -> Iterator[Finding]:
    """Check what is installed here."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "versions", f"bandit-server {__version__}, Python {python}, numpy {np.__version__}")
    yield from _versions()
    yield _name_clash()
    yield _event_loop()
    yield _blas()


def _versions() -> Iterator[Finding]:
    """Packages of versions that are not tested."""
    for name, (first, beyond) in TESTED.items():
        try:
            there = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("FAIL", "versions", f"{name} is not installed: pip install bandit-server")
            continue
        if _parts(there) < _parts(first):
            yield Finding("FAIL", "versions", f"{name} {there} is too old: {first} or later is needed")
        elif beyond is not None and _parts(there) >= _parts(beyond):
            yield Finding("FAIL", "versions", f"{name} {there} is too new: below {beyond} is needed")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _name_clash() -> Finding:
    """PyCQA's linter is called `bandit` too: installed beside us it overwrites our package."""
    try:
        importlib.metadata.distribution("bandit")
    except importlib.metadata.PackageNotFoundError:
        return Finding("ok", "name", "PyCQA's linter `bandit`, which would overwrite this package, is not installed")
    text = "PyCQA's linter `bandit` is installed here and overwrites this package: use another venv"
    return Finding("FAIL", "name", text)


def _event_loop() -> Finding:
    if importlib.util.find_spec("uvloop") is None:
        text = "uvloop is not installed: asyncio's own event loop takes about half as many requests"
        return Finding("note", "event loop", text)
    return Finding("ok", "event loop", f"uvloop {importlib.metadata.version('uvloop')}")


def _blas() -> Finding:
    """Measured, since a wrong kernel (a virtual machine that hides its processor, OPENBLAS_CORETYPE) gives no error."""
    config: Any = np.show_config(mode="dicts")
    name = config.get("Build Dependencies", {}).get("blas", {}).get("name", "an unknown library")
    rate = _rate()
    text = f"linear algebra by {name}: {rate:.0f} x 10^9 operations a second on one core"
    if chosen := os.environ.get("OPENBLAS_CORETYPE"):
        advice = f"OPENBLAS_CORETYPE={chosen} chooses its kernel by hand, which may be several times slower: unset it"
        return Finding("note", "BLAS", f"{text}; {advice}")
    if rate < SLOW:
        advice = "install numpy's own wheel, and let a virtual machine see its processor's AVX2"
        return Finding("note", "BLAS", f"{text}, which is slow: {advice}")
    return Finding("ok", "BLAS", text)


def _rate() -> float:
    """10^9 operations of a matrix product a second, of this thread's own time: other programs do not count."""
    A = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    begun, best = time.perf_counter(), 0.0
    while time.perf_counter() - begun < SECONDS:
        before = time.thread_time()
        for _ in range(100):
            A @ A
        taken = time.thread_time() - before
        best = max(best, 100 * 2 * SIZE**3 / taken / 1e9 if taken > 0 else 0.0)
    return best
