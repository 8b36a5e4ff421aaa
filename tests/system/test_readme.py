"""What the README says is executed, and what it prints is printed; with `tests` and `tests/support` on the path,
`--write` renews it.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Server

from bandit.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
RENEW = "renew the sample: python tests/system/test_readme.py --write"
VOLATILE = {"created_at", "updated_at", "expires_at", "model_position", "arm"}  # times, and what is drawn


def blocks(kind: str) -> list[str]:
    """The README's code blocks of one kind."""
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as the README starts it."""
    found = Server(tmp_path_factory.mktemp("readme") / "data", workers=1)
    yield found
    found.stop()


def steady(value: Any) -> Any:
    """An answer without what differs from run to run; numbers without the last bits, which are the machine's."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {name: None if name in VOLATILE else steady(each) for name, each in value.items()}
    return [steady(each) for each in value] if isinstance(value, list) else value


def sample(server: Server) -> list[str]:
    """The console block as it is now: each of its commands, run in order, and the server's answer under it."""
    lines = []
    for command in "".join(blocks("console")).splitlines()[::2]:
        assert command.startswith("$ curl ")
        real = command[2:].replace("localhost:8080", server.url.removeprefix("http://"))
        answer = subprocess.run(["bash", "-c", real], capture_output=True, text=True, check=True).stdout
        lines += [command, answer.strip()]
    return lines


def test_the_sixty_seconds_answer_as_printed(server: Server) -> None:
    """Every name and number of each answer is the one under its command, but for times and the arm drawn."""
    lines, now = "".join(blocks("console")).splitlines(), sample(server)
    assert len(lines) == len(now) >= 8
    for printed, answer in zip(lines[1::2], now[1::2], strict=True):
        assert steady(json.loads(answer)) == steady(json.loads(printed)), RENEW


def write() -> None:
    """Put what a server answers now under the README's commands."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", workers=1)
        try:
            now = sample(server)
        finally:
            server.stop()
    (before,) = blocks("console")
    (ROOT / "README.md").write_text(README.replace(before, "\n".join(now) + "\n"))


def test_ci_runs_the_readme_s_own_test_command() -> None:
    """The second set-up command is the one that CI runs."""
    setup, test = blocks("sh")[:2]
    assert "bandit-server demo" in setup
    assert test.strip() in (ROOT / ".ci/run").read_text()


def test_every_setting_is_on_its_page_with_its_default() -> None:
    """The table of settings is complete, and its defaults are the real ones."""
    page = (ROOT / "docs" / "settings.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    assert told.keys() == Settings.model_fields.keys()
    for name, field in Settings.model_fields.items():
        shown = "none" if field.default is None else str(field.default)
        shown = shown.lower() if isinstance(field.default, bool) else shown
        assert told[name].strip() == shown, name


def test_every_place_on_the_map_exists() -> None:
    """The map of the code names files that are there."""
    rows = re.findall(r"^\| (`[^|]*) \| [^|]* \|$", README.partition("## Map")[2], re.MULTILINE)
    for row in rows:
        folder = ROOT
        for place in re.findall(r"`([^`]+)`", row):
            path = ROOT / place if "/" in place else folder / place
            path = path if path.exists() else folder / place
            assert path.exists(), place
            folder = path.parent if path.is_file() else folder


def test_it_is_short() -> None:
    """At most 150 lines: the rest is in docs/."""
    assert len(README.splitlines()) <= 150


def test_relative_links_lead_somewhere() -> None:
    """In the README and in docs/, every link to a file of ours has its file."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
