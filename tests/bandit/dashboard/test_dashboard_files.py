"""The dashboard's files as they are served, and what is inside the package."""

import gzip
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from live import Live, problem

from bandit.errors import Code
from bandit.serving.dashboard import pages

STATIC = Path(pages.__file__).parent / "static"
VENDOR = STATIC / "vendor"


def test_a_file_is_compressed_for_who_reads_it_and_plain_for_others(server: Live) -> None:
    """Both are the same file, and say so to caches."""
    plain = server.client.get("/dashboard", headers={"accept-encoding": "identity"})
    packed = server.client.get("/dashboard", headers={"accept-encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content == (STATIC / "index.html").read_bytes()
    assert packed.headers["etag"] == plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "takes"), [("gzip;q=0", False), ("gzip; q=0.0", False), ("", False), ("gzip", True), ("*", True)]
)
def test_who_refuses_gzip_gets_none(accepted: str, takes: bool) -> None:
    """A quality of 0 is a refusal."""
    assert pages._takes_gzip(accepted) is takes


def test_a_file_that_is_known_is_not_sent_again(server: Live) -> None:
    """The browser asks by ETag, so that a new version of the server is seen at once."""
    first = server.client.get("/dashboard/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = server.client.get("/dashboard/app.js", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert server.client.get("/dashboard/app.js", headers={"if-none-match": '"other"'}).status_code == 200


def test_every_file_is_served_under_its_own_type_and_may_run_nothing_else(server: Live) -> None:
    """No page runs what is inline, or from elsewhere, or made of text; none may be framed."""
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    served = [path for path in STATIC.rglob("*") if path.suffix in types]
    assert len(served) > 20
    for path in served:
        answer = server.client.get(f"/dashboard/{path.relative_to(STATIC)}")
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith(types[path.suffix])
        assert answer.content == path.read_bytes()
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["nothing.js", "../pages.py", "..%2fpages.py", "vendor", "vendor/renew.sh", "vendor/README.md"]
)
def test_what_is_no_file_of_the_dashboard_is_not_found(server: Live, path: str) -> None:
    """Only files that were read at start, of the types above, can be asked for."""
    problem(server.client.get(f"/dashboard/{path}"), Code.NOT_FOUND)


def test_a_slash_too_many_leads_to_the_page(server: Live) -> None:
    """Its files are named relative to the address without it, whatever prefix a proxy puts before."""
    answer = server.client.get("/dashboard/")
    assert (answer.status_code, answer.headers["location"]) == (308, "../dashboard")
    assert server.client.get("/dashboard/", follow_redirects=True).status_code == 200


def test_libraries_are_those_that_were_fetched() -> None:
    """Nobody edits them by hand; each has its licence and its version beside it."""
    sums = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    assert {f"./{path.name}" for path in VENDOR.glob("*.[jc]s*")} == sums.keys()
    for name, expected in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == expected, name
    for line in (VENDOR / "VERSIONS").read_text().splitlines():
        assert (VENDOR / f"LICENSE.{line.split()[0]}").stat().st_size > 500


def test_our_own_files_name_nothing_outside_and_parse_no_text_as_markup() -> None:
    """No CDN, no font service; what is shown is set as text."""
    for path in STATIC.rglob("*.*"):
        if path.parent == VENDOR or path.suffix not in (".js", ".css", ".html"):
            continue
        text = path.read_text()
        assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", re.sub(r"^\s*//.*$", "", text, flags=re.M)), path
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|dangerously|document\.write|eval\(", text), path
        assert len(text.splitlines()) <= 450, path


def test_all_of_it_compressed_is_small() -> None:
    """Every module and library together stay within the 200 kB of a first load, charts too."""
    assert sum(len(found.packed) for found in pages.FILES.values()) < 200_000
    assert all(gzip.decompress(found.packed) == found.plain for found in pages.FILES.values())


def test_the_wheel_has_every_file(tmp_path: Path) -> None:
    """What is installed serves what the repository does."""
    root = Path(pages.__file__).parents[3]
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(root),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {f"bandit/serving/dashboard/static/{name}" for name in pages.FILES} <= inside
