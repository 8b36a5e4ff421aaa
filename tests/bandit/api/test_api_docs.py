"""What the server tells of itself: an OpenAPI document that holds, examples that work, a page without the internet."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from live import Live, ok, serving, valkey


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """One server for all tests here."""
    with valkey() as url, serving(url) as live:
        yield live


@pytest.fixture(scope="module")
def document(server: Live) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = ok(server.client.get("/openapi.json"))
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of each."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def within(value: Any, name: str) -> Iterator[Any]:
    """Every value of this name, anywhere within."""
    if isinstance(value, dict):
        yield from (inner for key, inner in value.items() if key == name)
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from within(inner, name)


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to(document: dict[str, Any]) -> None:
    """No dangling $ref, nothing left over of the framework's own errors, operation ids that differ."""
    assert document["openapi"].startswith("3.1")
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {ref for ref in within(document, "$ref") if isinstance(ref, str)} == schemas
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_part_of_a_path_is_a_parameter(document: dict[str, Any]) -> None:
    """And each parameter of a path is a part of it."""
    for _, path, operation in operations(document):
        told = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"]
        assert told == re.findall(r"{(\w+)}", path)


def test_every_operation_tells_its_success_and_its_refusals(document: dict[str, Any]) -> None:
    """A success of its own status, refusals as problem documents, bodies with an example."""
    for method, path, operation in operations(document):
        answers = operation["responses"]
        assert [status for status in answers if status.startswith("2")]
        for status, answer in answers.items():
            if int(status) >= 400 and path != "/readyz":
                assert answer["content"].keys() == {"application/problem+json"}
        if path.startswith("/v1/experiments"):
            assert "503" in answers
            assert ("requestBody" in operation) == (method in ("PUT", "PATCH", "POST"))


ORDER = ["PUT /v1/experiments/{e}", "PUT", "PATCH", "POST /v1/experiments/{e}/recommendations", "POST", "GET", "DELETE"]


def when(method: str, path: str) -> tuple[int, int]:
    """Where an example has its turn: what makes something before what uses it, and what ends it last, from within."""
    line = f"{method} {path}"
    return next(i for i, start in enumerate(ORDER) if line == start or method == start), -path.count("/")


def test_every_example_works(server: Live, document: dict[str, Any]) -> None:
    """Each is sent to the live server, in an order that makes sense, and succeeds with a status that is told."""
    done = set()
    for method, path, operation in sorted(operations(document), key=lambda each: when(*each[:2])):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        body = {"json": content["example"]} if content else {}
        response = server.client.request(method, path.format(e="home", arm="d"), **body)
        assert 200 <= response.status_code < 300, f"{method} {path} {response.text}"
        assert str(response.status_code) in operation["responses"]
        results = response.json().get("results", []) if response.content else []
        assert not [result for result in results if "problem" in result]
        done.add((method, path))
    assert len(done) == 21


def test_the_page_needs_nothing_from_elsewhere(server: Live) -> None:
    """No address of another server in it, every file it names is here, and it asks nobody whether we are valid."""
    page = server.client.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"(?:https?:)?//[a-z]", page.text)
    names = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(names) >= 3
    for name in names:
        found = server.client.get(name)
        assert (found.status_code, len(found.content) > 100) == (200, True), name
    assert '"validatorUrl": null' in page.text
    assert "/openapi.json" in page.text


def test_no_other_page_is_served(server: Live) -> None:
    """No second viewer, and static files only by their names."""
    for path in ("/redoc", "/static-offline-docs/", "/static-offline-docs/../core.py", "/"):
        assert server.client.get(path).status_code == 404


def test_the_version_is_the_packages(server: Live, document: dict[str, Any]) -> None:
    """The same in /v1/version and in the document."""
    assert ok(server.client.get("/v1/version")) == {"version": document["info"]["version"]}
