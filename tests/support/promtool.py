"""Prometheus' own tool: it checks metrics, rules, and what rules do."""

import os
import shutil
import subprocess

import pytest


def promtool(*arguments: str, given: str = "") -> str:
    """What it says, which must have no complaint. Skips where it is not installed; CI installs it."""
    if shutil.which("promtool") is None:
        assert "CI" not in os.environ, "promtool is missing: .ci/run installs Debian's package prometheus"
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
