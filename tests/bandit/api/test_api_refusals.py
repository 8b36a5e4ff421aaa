"""Refusals are counted by their code, wherever on its way a request is refused."""

from collections.abc import Iterator

import pytest
from live import DOCUMENT, Live, ok, problem, serving, until, valkey
from prometheus_client.parser import text_string_to_metric_families

from bandit.access.keys import limit_of, new_text
from bandit.access.manage import Keyring, Wanted
from bandit.errors import Code

ADMIN = new_text()
HOME = "/v1/experiments/home"
SHORT, LONG = "application/json", "application/json; charset=utf-8"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Live]:
    """A server that asks for keys."""
    with valkey() as url, serving(url, auth="on", admin_key=ADMIN, cors_origins="https://shop.example") as live:
        live.client.headers["x-api-key"] = ADMIN
        until(lambda: live.client.get("/v1/whoami").status_code == 200)
        ok(live.client.put(HOME, json=DOCUMENT), 201)
        yield live


def key(live: Live, role: str, limit: str = "") -> str:
    """A new key that the server knows already."""
    made = Keyring(live.service.store).create(Wanted(role, (role,), limit=limit_of(limit) if limit else None)).text
    until(lambda: live.client.get("/v1/whoami", headers={"x-api-key": made}).status_code == 200)
    return made


def refusals(live: Live) -> dict[tuple[str, str, str], float]:
    """How many there were, by experiment, operation and code."""
    families = text_string_to_metric_families(ok_text(live))
    return {
        (each.labels["experiment"], each.labels["operation"], each.labels["code"]): each.value
        for family in families
        for each in family.samples
        if each.name == "bandit_problems_total"
    }


def ok_text(live: Live) -> str:
    """A scrape."""
    return live.client.get("/metrics").raise_for_status().text


@pytest.mark.parametrize("way", [SHORT, LONG])
def test_refusals_of_keys_are_counted_both_ways(guarded: Live, way: str) -> None:
    """401, 403 and 429 of an experiment's operation, under its name."""
    reader, limited = key(guarded, "read"), key(guarded, "write", "1/h")
    codes = {Code.UNAUTHENTICATED: new_text(), Code.FORBIDDEN: reader, Code.RATE_LIMITED: limited}
    guarded.client.post(f"{HOME}/feedback", content=b"{}", headers={"x-api-key": limited, "content-type": way})
    before = refusals(guarded)
    for code, used in codes.items():
        headers = {"x-api-key": used, "content-type": way}
        problem(guarded.client.post(f"{HOME}/feedback", content=b"{}", headers=headers), code)
    after = refusals(guarded)
    for code in codes:
        assert after["home", "feedback", code] - before.get(("home", "feedback", code), 0) == 1


def test_refusals_of_other_routes_are_counted(guarded: Live) -> None:
    """By the gate, a preflight, the router, a route's own, and a wrong parameter."""
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    asked = [
        (Code.UNAUTHENTICATED, ("GET", HOME, {"x-api-key": new_text()})),
        (Code.FORBIDDEN, ("OPTIONS", HOME, preflight)),
        (Code.NOT_FOUND, ("GET", "/nothing", {})),
        (Code.METHOD_NOT_ALLOWED, ("DELETE", "/v1/version", {})),
        (Code.EXPERIMENT_NOT_FOUND, ("GET", "/v1/experiments/nothing", {})),
        (Code.INVALID_REQUEST, ("GET", "/v1/experiments?limit=0", {})),
    ]
    before = refusals(guarded)
    for code, (method, path, headers) in asked:
        problem(guarded.client.request(method, path, headers=headers), code)
    after = refusals(guarded)
    assert {code: after["", "other", code] - before.get(("", "other", code), 0) for code, _ in asked} == {
        code: 1 for code, _ in asked
    }
    assert 'bandit_http_requests_total{code="403",method="OPTIONS",route="other"}' in ok_text(guarded)


def test_an_error_of_the_server_is_counted_whichever_route_it_struck(
    guarded: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bug, once each, beside the refusals: what the alert looks at."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    assert "\nbandit_bugs_total 0.0" in ok_text(guarded)
    monkeypatch.setattr(guarded.service, "known", fail)
    assert guarded.client.post(f"{HOME}/feedback", json={}).status_code == 500
    monkeypatch.setattr(guarded.service.experiments, "replica", fail)
    assert guarded.client.get(f"{HOME}/arms").status_code == 500
    assert "\nbandit_bugs_total 2.0" in ok_text(guarded)
