"""What the server tells of itself: an OpenAPI document that holds, examples that work, a page without the internet.

`PYTHONPATH=tests:tests/support python tests/bandit/api/test_api_docs.py --write` renews the examples.
"""

import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from live import Live, ok, serving, until, valkey
from msgspec import UNSET

from bandit.errors import json_type
from bandit.serving.api.examples import EXCHANGES, PATH, Exchange


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
        assert all(each["description"] for each in operation.get("parameters", ()))


def test_every_operation_tells_its_success_and_its_refusals(document: dict[str, Any]) -> None:
    """A success of its own status, refusals as problem documents, bodies with an example."""
    for method, path, operation in operations(document):
        answers = operation["responses"]
        assert operation["summary"].endswith((".", "?"))
        assert [status for status in answers if status.startswith("2")]
        for status, answer in answers.items():
            if int(status) >= 400 and path != "/readyz":
                assert answer["content"].keys() == {"application/problem+json"}
        if path.startswith("/v1/experiments"):
            assert "503" in answers
            assert ("requestBody" in operation) == (method in ("PUT", "PATCH", "POST"))


def test_every_property_of_every_schema_says_what_it_means_and_shows_a_value(document: dict[str, Any]) -> None:
    """A sentence for each, and values that a real server was sent or answered, but for those of a server in trouble."""
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"].strip(), name
        for field, about in schema["properties"].items():
            assert re.fullmatch(r"[A-Z].{10,}\.", about["description"]), f"{name}.{field}"
            assert about.get("examples") or (name, field) in WITHOUT, f"{name}.{field}"


WITHOUT = {("Readiness", "reason"), ("Standing", "failed")}  # only where a store is away, or a log cannot be read
WITHOUT |= {("Effect", name) for name in ("value", "low", "high", "more", "matured")}  # only from hundreds of users on
WITHOUT |= {("Effect", f"relative{end}") for end in ("", "_low", "_high")} | {("Lift", "alarm")}
WITHOUT |= {("Readiness", "degraded"), ("RecommendationAnswer", "degraded")}
WITHOUT |= {("FeatureSeen", "suggestion")}  # only after a hundred decisions


def valid(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Raises unless the value is one of the schema's."""
    whole = schema | {"components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def test_every_success_has_an_example_that_its_schema_allows(document: dict[str, Any]) -> None:
    """So has every body that is sent."""
    for method, path, operation in operations(document):
        answers = {code: answer for code, answer in operation["responses"].items() if code.startswith("2")}
        for code, answer in answers.items():
            if code != "204":
                (content,) = answer["content"].values()
                assert content["example"], f"{method} {path} {code}"
                valid(content["example"], content["schema"], document)
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            valid(content["example"], content["schema"], document)


def test_every_recorded_answer_is_one_of_its_schema(document: dict[str, Any]) -> None:
    """Not only the first of each operation and status; refusals too."""
    for each in EXCHANGES:
        if each.answer is not UNSET:
            answer = document["paths"][each.operation.partition(" ")[2]][each.method.lower()]["responses"]
            (content,) = answer[str(each.status)]["content"].values()
            valid(each.answer, content["schema"], document)


def alike(a: Any, b: Any) -> bool:
    """Whether two answers have the same names and types; null may stand for any value, and a list may be shorter."""
    if a is None or b is None:
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return bool(a) == bool(b) and all(any(alike(one, other) for other in b) for one in a)
    return json_type(a) == json_type(b)


def sent(server: Live, each: Exchange) -> httpx.Response:
    """The answer to an exchange's request."""
    body = {} if each.body is UNSET else {"json": each.body}
    return server.client.request(each.method, each.address, **body)


def answer_of(response: httpx.Response) -> Any:
    """An answer's JSON, or the first lines of a text; UNSET where there is none."""
    if response.headers.get("content-type", "").startswith("text/"):
        return "".join(response.text.splitlines(keepends=True)[:4])
    return response.json() if response.content else UNSET


def test_a_server_answers_what_the_examples_say(server: Live, document: dict[str, Any]) -> None:
    """Every recorded request, in order: the same status, and an answer of the same names and types.

    What is read back is learned a moment after it was written.
    """

    def same(each: Exchange) -> bool:
        response = sent(server, each)
        assert response.status_code == each.status, f"{each.operation} {response.text}"
        assert each.method == "GET" or not each.answer or alike(answer_of(response), each.answer), response.text
        return each.answer is UNSET or alike(answer_of(response), each.answer)

    for each in EXCHANGES:
        until(lambda each=each: same(each))
    asked = {each.operation for each in EXCHANGES if each.status < 300}
    assert asked == {f"{method} {path}" for method, path, _ in operations(document)}
    assert len(asked) == 36


def write() -> None:
    """Ask a server every recorded request again, and keep what it answers."""
    with valkey() as url, serving(url) as server:
        for each in EXCHANGES:
            if each.method == "GET":
                time.sleep(1)  # until what came before has been learned
            response = sent(server, each)
            each.status, each.answer = response.status_code, answer_of(response)
    PATH.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in EXCHANGES))


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


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
