"""Programs that kill themselves at a call of a function, as kill -9 would."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def dying_at(owners: Mapping[str, Any], place: str, at: int) -> None:
    """Have this process die when the function at `OWNER.NAME` is called for the `at`-th time, counted from 0."""
    module, _, name = place.rpartition(".")
    owner, calls = owners[module], 0
    real = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(owner, name, dying)


def killed(program: str, *arguments: str) -> None:
    """Run a program that uses `dying_at`, and see it die."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=120, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
