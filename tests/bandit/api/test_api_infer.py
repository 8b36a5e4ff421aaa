"""A document inferred from a sample over HTTP: both kinds of body, refusals; a server takes what it proposed."""

from typing import Any

import httpx
import pytest
from asking import QUIETLY
from hypothesis import given, settings
from live import Live, ok, problem
from samples import shop, tables

from bandit.core.inferred.proposal import proposed
from bandit.core.inferred.table import read_table
from bandit.errors import Code
from bandit.serving.firstminutes.sample import BUSY

AT = "/v1/documents/infer"
JSON = {"content-type": "application/json"}


def sent(server: Live, text: str, kind: str = "text/csv") -> httpx.Response:
    """A sample as it is."""
    return server.client.post(AT, content=text.encode(errors="replace"), headers={"content-type": kind})


def test_both_kinds_of_body_answer_the_same(server: Live) -> None:
    """CSV itself, with a charset or without, and CSV in JSON; what is answered is what the function says."""
    expected = proposed(read_table(shop()))
    plain = ok(sent(server, shop()))
    assert (
        plain == ok(sent(server, shop(), "text/csv; charset=utf-8")) == ok(server.client.post(AT, json={"csv": shop()}))
    )
    assert plain["document"] == expected.document
    assert plain["warnings"] == list(expected.warnings)
    assert set(plain["columns"][0]) == {"name", "role", "feature", "why", "examples_missing"}


def test_a_sample_makes_an_experiment_that_decides(server: Live) -> None:
    """The proposed document is put, and a visitor like those of the sample is answered."""
    document = ok(sent(server, shop()))["document"]
    assert server.client.put("/v1/experiments/inferred", json=document).status_code == 201
    context = {
        "age": None, "hour": 20, "member": True, "device": "phone", "city": "city1", "basket": 12.5, "zip": "10001",
        "taste": [0.1, 0.2],
    }  # fmt: skip
    asked = server.client.post("/v1/experiments/inferred/recommendations", json={"context": context})
    assert ok(asked)["arms"][0]["arm"] in document["arms"]


def test_roles_that_are_told_are_taken(server: Live) -> None:
    """A column that was dropped is a feature where the caller says so."""
    body = {"csv": shop(), "roles": {"checkout": "feature", "age": "dropped"}}
    told = {each["name"]: each["role"] for each in ok(server.client.post(AT, json=body))["columns"]}
    assert (told["checkout"], told["age"]) == ("feature", "dropped")


@pytest.mark.parametrize(
    ("body", "code", "at"),
    [
        ({"csv": "1,2\n"}, Code.INVALID_REQUEST, "/csv"),
        ({"csv": 1}, Code.INVALID_REQUEST, "/csv"),
        ({}, Code.INVALID_REQUEST, "/csv"),
        ({"csv": "a,b\n1,2\n", "roles": {"c": "arm"}}, Code.INVALID_REQUEST, "/roles/c"),
        ({"csv": "a,b\n1,2\n", "roles": {"a": "weapon"}}, Code.INVALID_REQUEST, "/roles/a"),
        ({"csv": "a,b\n1,2\n", "name": "x"}, Code.INVALID_REQUEST, "/name"),
    ],
)
def test_a_wrong_body_is_refused_with_its_place(server: Live, body: Any, code: Code, at: str) -> None:
    """No names, no text, no sample, an unknown column, role or field."""
    assert [fault["pointer"] for fault in problem(server.client.post(AT, json=body), code)["errors"]] == [at]


def test_what_is_no_text_is_refused(server: Live) -> None:
    """Bytes that are not UTF-8, another media type, and more than a body may have."""
    content = b"a,b\n\xff,1\n"
    problem(server.client.post(AT, content=content, headers={"content-type": "text/csv"}), Code.MALFORMED)
    problem(sent(server, "a,b\n1,2\n", "text/plain"), Code.UNSUPPORTED_MEDIA_TYPE)
    problem(sent(server, "a,b\n" + "1,2\n" * 300_000), Code.TOO_LARGE)
    problem(server.client.post(f"{AT}?dry_run=true", json={"csv": "a\nb\n"}), Code.INVALID_REQUEST)


def test_one_sample_at_a_time_is_looked_at(server: Live) -> None:
    """It takes the interpreter from those who decide: another one is told to come again."""
    with BUSY:
        problem(sent(server, shop()), Code.OVERLOADED)
    assert ok(sent(server, shop()))["rows"] == 600


@pytest.mark.parametrize("rows", [60, 6000])
def test_a_sample_of_any_size_is_refused_as_it_should_be(server: Live, rows: int) -> None:
    """A large one is looked at by another process: the same problems, and the same pointers."""
    body = {"csv": shop(rows), "roles": {"device": "reward"}}
    (fault,) = problem(server.client.post(AT, json=body), Code.INVALID_REQUEST)["errors"]
    assert fault["pointer"] == "/roles/device"
    problem(sent(server, "1,2\n" + shop(rows)), Code.INVALID_REQUEST)
    problem(server.client.post(AT, content=b"{" + b" " * rows * 100, headers=JSON), Code.MALFORMED)
    assert ok(sent(server, shop(rows)))["rows"] == rows


def test_a_process_that_dies_is_a_refusal(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no memory, or where there can be no process: 503, and the next sample is looked at."""
    for python in ("/bin/false", "/nowhere/python"):
        with monkeypatch.context() as patch:
            patch.setattr("sys.executable", python)
            problem(sent(server, shop()), Code.OVERLOADED)
    assert ok(sent(server, shop()))["rows"] == 600


def test_no_thread_looks_at_a_large_sample(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the interpreter from those who decide."""
    monkeypatch.setattr("bandit.serving.firstminutes.sample.proposed", None)
    assert ok(sent(server, shop()))["rows"] == 600


def test_a_refused_sample_keeps_nobody_out(server: Live) -> None:
    """Nor does a body that is no JSON."""
    problem(server.client.post(AT, content=b"{", headers=JSON), Code.MALFORMED)
    problem(sent(server, "1,2\n"), Code.INVALID_REQUEST)
    assert ok(sent(server, shop()))["rows"] == 600


@settings(QUIETLY, max_examples=60)
@given(text=tables())
def test_a_server_takes_every_document_that_it_proposes(server: Live, text: str) -> None:
    """Whatever the sample: the answer is a refusal of the sample, or a document whose dry run is accepted."""
    found = server.client.post(AT, json={"csv": text})
    if found.status_code != 200:
        problem(found, Code.INVALID_REQUEST)
        return
    document = found.json()["document"]
    dry = ok(server.client.put("/v1/experiments/anything", params={"dry_run": "true"}, json=document))
    assert dry["creates"]
