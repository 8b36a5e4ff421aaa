"""Who is let in: every route with no key, a wrong one, one of too small a role, one that was revoked a second ago."""

import re
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from live import CONTEXT, DOCUMENT, Live, ok, problem, serving, until, valkey
from starlette.routing import Mount

from bandit.access.keys import limit_of, new_text
from bandit.access.manage import Keyring, Wanted
from bandit.access.ring import LOOK_SECONDS
from bandit.errors import Code
from bandit.serving.access.gate import OPEN, needed

LONG = {"content-type": "application/json; charset=utf-8"}  # sends a request the long way
SHORT = {"content-type": "application/json"}
CORS = "https://shop.example"


class Guarded(NamedTuple):
    """A server that asks for keys, and keys of each kind."""

    live: Live
    keyring: Keyring
    keys: dict[str, str]

    def key(self, *roles: str, experiments: tuple[str, ...] | None = None, limit: str = "") -> str:
        """A new key that the server knows already."""
        made = self.keyring.create(
            Wanted("/".join(roles), roles, experiments, limit=limit_of(limit) if limit else None)
        )
        self.until_known(made.text)
        return made.text

    def until_known(self, key: str, status: int = 200) -> None:
        """Wait until the server has heard of a change of this key."""
        until(lambda: self.ask("GET", "/v1/whoami", key).status_code == status)

    def ask(self, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        """A request with a key, or none."""
        headers = more.pop("headers", {}) | ({} if key is None else {"authorization": f"Bearer {key}"})
        return self.live.client.request(method, path, headers=headers, **more)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One for all tests of this module, with an experiment `home` and one `other`."""
    file = tmp_path_factory.mktemp("keys") / "first"
    with valkey() as url, serving(url, auth="on", first_key_file=file, cors_origins=CORS) as live:
        first = until(lambda: file.exists() and file.read_text().strip())
        assert file.stat().st_mode & 0o777 == 0o600
        found = Guarded(live, Keyring(live.service.store), {"admin": first})
        found.until_known(first)
        for name in ("home", "other"):
            ok(found.ask("PUT", f"/v1/experiments/{name}", first, json=DOCUMENT), 201)
        found.keys.update({role: found.key(role) for role in ("write", "read")}, wrong=new_text())
        revoked = found.key("admin", "write", "read")
        found.keyring.revoke(revoked.split("_")[1])
        found.until_known(revoked, 401)
        yield found._replace(keys=found.keys | {"revoked": revoked})


def addresses(application: Any) -> Iterator[tuple[str, str]]:
    """(method, address) of every route, the experiment being `home`; of a mount, what is below it."""
    for route in application.routes:
        if hasattr(route, "original_router"):  # as FastAPI keeps those that it includes
            yield from addresses(route.original_router)
            continue
        path = re.sub(r"{e(:\w+)?}", "home", route.path)
        path = re.sub(r"{[^}]*}", "x", path)
        if isinstance(route, Mount):
            yield "GET", path + "/x"
            continue
        for method in sorted(getattr(route, "methods", None) or ("GET",)):
            yield method, path


@pytest.fixture(scope="module")
def every(guarded: Guarded) -> list[tuple[str, str]]:
    """Every (method, address) of the application."""
    from bandit.serving.api.app import build_app

    found = list(addresses(build_app(guarded.live.service).app))
    assert len(found) > 30
    return found


EXPERIMENT = "/v1/experiments/home"
WRITING = {f"{EXPERIMENT}/{what}" for what in ("recommendations", "activations", "feedback")}
WRITING |= {f"{at}/batch" for at in WRITING} | {"/v1/recommendations", "/v1/feedback"}


def role_of(method: str, path: str) -> str:
    """The role that each address was meant to need, said once more."""
    if path == "/v1/whoami":
        return ""
    if path.startswith("/v1/audit"):
        return "admin"
    if method == "POST" and path in WRITING:
        return "write"
    return "read" if method in ("GET", "HEAD") or path == f"{EXPERIMENT}/preview" else "admin"


ALLOWED_OPEN = {"/healthz", "/readyz", "/v1/version", "/openapi.json"}  # each of these was decided, not left over


def test_no_route_is_open_but_those_that_are_meant_to_be(guarded: Guarded, every: list[tuple[str, str]]) -> None:
    """Without a key every route but health, version and static pages is refused, whoever added it."""
    assert OPEN == ALLOWED_OPEN
    for method, path in every:
        answer = guarded.ask(method, path)
        if path in ALLOWED_OPEN or re.match(r"/(docs|static-offline-docs|dashboard)(/|$)", path):
            assert answer.status_code != 401, f"{method} {path}"
            assert method in ("GET", "HEAD")
        else:
            assert answer.status_code == 401, f"{method} {path}"


@pytest.mark.parametrize("which", ["wrong", "revoked"])
def test_every_route_refuses_a_key_that_is_not_in_force(
    guarded: Guarded, every: list[tuple[str, str]], which: str
) -> None:
    """401 with a challenge, as a problem document that does not repeat the key; the connection goes on."""
    for method, path in every:
        if needed(method, path) is None:
            continue
        answer = guarded.ask(method, path, guarded.keys[which], headers=SHORT)
        assert answer.status_code == 401, f"{method} {path}"
        assert answer.headers["www-authenticate"] == 'Bearer realm="bandit-server", error="invalid_token"'
        assert guarded.keys[which] not in answer.text
        if method != "HEAD":
            problem(answer, Code.UNAUTHENTICATED)


def test_every_route_refuses_a_key_of_too_small_a_role(guarded: Guarded, every: list[tuple[str, str]]) -> None:
    """403 that names the role that is needed and the one that the key has; what the role allows is let through."""
    refused = 0
    for method, path in every:
        if needed(method, path) is None:
            continue
        role = role_of(method, path)
        for has in ("read", "write"):
            answer = guarded.ask(method, path, guarded.keys[has], headers=SHORT)
            if role in ("", has):
                assert answer.status_code not in (401, 403), f"{method} {path} {has}"
                continue
            refused += 1
            assert answer.status_code == 403, f"{method} {path} {has}"
            if method != "HEAD":
                assert f"needs the role {role}; the key has {has}" in problem(answer, Code.FORBIDDEN)["detail"]
    assert refused > 30
    assert ok(guarded.ask("GET", "/v1/experiments/home", guarded.keys["read"]))["version"] == 1


def test_an_address_that_does_not_exist_needs_a_key_too(guarded: Guarded) -> None:
    """Nobody without a key learns which experiments or addresses there are."""
    for path in ("/v1/experiments/none", "/v1/nothing", "/", "/docsx", "/v1/experiments/home%2Ffeedback"):
        problem(guarded.ask("GET", path), Code.UNAUTHENTICATED)
        assert guarded.ask("GET", path, guarded.keys["admin"]).status_code == 404


@pytest.mark.parametrize("kind", [SHORT, LONG])
@pytest.mark.parametrize("what", ["recommendations", "feedback", "activations", "recommendations/batch"])
def test_both_ways_let_the_same_in(guarded: Guarded, kind: dict[str, str], what: str) -> None:
    """The short way of a request, heads that it remembers included, and the long one refuse alike."""
    at, body = f"/v1/experiments/home/{what}", b"{}"
    for _ in range(3):  # the second has a head that is known
        for which, status in (("write", 422), ("admin", 422), ("read", 403), ("wrong", 401), ("revoked", 401)):
            answer = guarded.ask("POST", at, guarded.keys[which], content=body, headers=kind)
            assert answer.status_code == status, (which, answer.text)
        assert guarded.ask("POST", at, content=body, headers=kind).status_code == 401


@pytest.mark.parametrize("kind", [SHORT, LONG])
def test_a_remembered_head_does_not_outlive_its_key(guarded: Guarded, kind: dict[str, str]) -> None:
    """A key that was revoked is refused within a second, however often the same bytes were served before."""
    key = guarded.key("write")
    more: dict[str, Any] = {"json": {"context": CONTEXT}, "headers": kind}

    def ask() -> httpx.Response:
        return guarded.ask("POST", "/v1/experiments/home/recommendations", key, **more)

    for _ in range(5):
        ok(ask())
    guarded.keyring.revoke(key.split("_")[1])
    until(lambda: ask().status_code == 401, LOOK_SECONDS + 5)
    for _ in range(3):
        problem(ask(), Code.UNAUTHENTICATED)


@pytest.mark.parametrize("kind", [SHORT, LONG])
def test_a_key_for_certain_experiments_touches_no_other(guarded: Guarded, kind: dict[str, str]) -> None:
    """Neither by the address, nor by a list of several, nor by an event of a user that all could have."""
    key = guarded.key("write", "read", experiments=("home",))
    body = {"context": CONTEXT, "user_id": "u"}
    for name in ("home", "other"):
        ok(guarded.ask("POST", f"/v1/experiments/{name}/recommendations", guarded.keys["admin"], json=body))
    ok(guarded.ask("POST", "/v1/experiments/home/recommendations", key, json=body, headers=kind))
    answer = guarded.ask("POST", "/v1/experiments/other/recommendations", key, json=body, headers=kind)
    problem(answer, Code.FORBIDDEN)
    several = {"context": CONTEXT, "experiments": {"home": {}, "other": {}}}
    found = ok(guarded.ask("POST", "/v1/recommendations", key, json=several, headers=kind))["results"]
    assert "arms" in found["home"]
    assert found["other"]["problem"]["code"] == "forbidden"
    bought = ok(guarded.ask("POST", "/v1/feedback", key, json={"user_id": "u", "event": "sale", "value": 1}))
    assert list(bought["results"]) == ["home"]
    listed = ok(guarded.ask("GET", "/v1/experiments", key))["experiments"]
    assert [each["name"] for each in listed] == ["home"]
    assert list(ok(guarded.ask("GET", "/readyz", key))["replicas"]) == ["home"]
    problem(guarded.ask("GET", "/v1/experiments/other/arms", key), Code.FORBIDDEN)
    problem(guarded.ask("GET", "/metrics", key), Code.FORBIDDEN)


def test_readyz_tells_names_to_those_with_a_key_only(guarded: Guarded) -> None:
    """A probe learns whether it is ready, and no more."""
    assert ok(guarded.ask("GET", "/readyz?digests=true"))["replicas"] == {}
    assert set(ok(guarded.ask("GET", "/readyz", guarded.keys["read"]))["replicas"]) == {"home", "other"}


def test_a_key_is_taken_from_either_header(guarded: Guarded) -> None:
    """`Authorization: Bearer` in any case, or `X-API-Key`; two that differ, or another scheme, are refused."""
    key, wrong = guarded.keys["read"], guarded.keys["wrong"]

    def ask(**headers: str) -> httpx.Response:
        return guarded.ask(
            "GET", "/v1/whoami", headers={name.replace("_", "-"): each for name, each in headers.items()}
        )

    ok(ask(authorization=f"bearer   {key}"))
    ok(ask(x_api_key=key))
    ok(ask(x_api_key=key, authorization=f"Bearer {key}"))
    for headers in (
        {"x_api_key": key, "authorization": f"Bearer {wrong}"},
        {"authorization": f"Basic {key}"},
        {"authorization": key},
        {"x_api_key": ""},
        {"authorization": "Bearer"},
    ):
        assert "expected one key" in problem(ask(**headers), Code.UNAUTHENTICATED)["detail"]


def test_a_refusal_leaves_the_connection_usable(guarded: Guarded) -> None:
    """Its body is not read to be judged, and what follows on the connection is served."""
    host = b"Host: x\r\nAuthorization: Bearer " + guarded.keys["write"].encode() + b"\r\n\r\n"
    refused = b"POST /v1/experiments/home/recommendations/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", guarded.live.port), timeout=10) as connection:
        connection.sendall(refused)  # its body has not come
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        connection.sendall(b"x" * 100_000 + b"GET /v1/whoami HTTP/1.1\r\n" + host)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_whoami_says_what_a_key_may_do(guarded: Guarded) -> None:
    """Its id, name, role and experiments, and never its secret."""
    key = guarded.key("write", "read", experiments=("other", "home"))
    assert ok(guarded.ask("GET", "/v1/whoami", key)) == {
        "key": key.split("_")[1], "name": "write/read", "role": "read+write", "experiments": ["home", "other"],
        "auth": True,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [SHORT, LONG])
def test_a_key_is_used_as_often_as_its_limit_says(guarded: Guarded, kind: dict[str, str]) -> None:
    """Each answer tells what is left, and the one after the last when to come again; others are not affected."""
    key = guarded.key("write", limit="5/h")
    for at in range(5):
        spent = 5 - at - 1 - (at > 0)  # `whoami` was asked once, until the key was known
        answer = guarded.ask("POST", "/v1/experiments/home/feedback", key, content=b"{}", headers=kind)
        if spent < 0 or answer.status_code == 429:
            break
        assert answer.headers["ratelimit-policy"] == '"key";q=5;w=3600'
        assert re.fullmatch(r'"key";r=\d;t=\d+', answer.headers["ratelimit"])
    problem(answer, Code.RATE_LIMITED)
    assert answer.headers["ratelimit"].startswith('"key";r=0;')
    assert 1 <= int(answer.headers["retry-after"]) <= 7200
    assert guarded.ask("POST", "/v1/experiments/home/feedback", guarded.keys["write"], content=b"{}").status_code == 422


def test_a_batch_counts_its_items(guarded: Guarded) -> None:
    """A limit of requests cannot be stepped round by sending a thousand in one."""
    key = guarded.key("write", limit="50/h")
    batch = {"requests": [{"context": CONTEXT}] * 30}
    at = "/v1/experiments/home/recommendations/batch"
    ok(guarded.ask("POST", at, key, json=batch))
    problem(guarded.ask("POST", at, key, json=batch), Code.RATE_LIMITED)
    never = {"requests": [{"context": CONTEXT}] * 51}
    problem(guarded.ask("POST", at, guarded.key("write", limit="50/h"), json=never), Code.INVALID_REQUEST)


@pytest.mark.parametrize("origin", [None, CORS, "https://evil.example"])
@pytest.mark.parametrize("which", ["write", "wrong"])
def test_both_ways_have_the_same_headers_for_browsers(guarded: Guarded, origin: str | None, which: str) -> None:
    """CORS headers of the short way are those of Starlette's, on answers and on refusals."""
    shown = []
    for kind in (SHORT, LONG):
        headers = kind | ({} if origin is None else {"origin": origin})
        answer = guarded.ask(
            "POST", "/v1/experiments/home/feedback", guarded.keys[which], content=b"{}", headers=headers
        )
        shown.append({name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")})
    assert shown[0] == shown[1]
    assert (shown[0].get("access-control-allow-origin") == CORS) == (origin == CORS)


def test_a_browser_is_answered_without_a_key_before_it_sends_one(guarded: Guarded) -> None:
    """A preflight has none; of another origin it is refused."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    at = "/v1/experiments/home/feedback"
    answer = guarded.ask("OPTIONS", at, headers={"origin": CORS} | asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, CORS)
    refused = guarded.ask("OPTIONS", at, headers={"origin": "https://evil.example"} | asked)
    assert "access-control-allow-origin" not in refused.headers
    assert "its origin" in problem(refused, Code.FORBIDDEN)["detail"]
    assert answer.headers["x-request-id"] != refused.headers["x-request-id"]
    named = guarded.ask("OPTIONS", at, headers={"origin": CORS, "x-request-id": "mine"} | asked)
    assert named.headers["x-request-id"] == "mine"


def test_pages_say_what_they_may_load(guarded: Guarded) -> None:
    """The document's page has a policy under which its own inline script, and nothing else inline, runs."""
    answer = guarded.ask("GET", "/docs")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"'sha256-", policy)) == len(re.findall(r"<script>", answer.text)) == 1
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_every_change_is_in_the_audit_log(guarded: Guarded) -> None:
    """Who, when, from where, what was there before and after; and only an admin may read it."""
    admin, name = guarded.keys["admin"], "audited"
    at = f"/v1/experiments/{name}"
    id_ = admin.split("_")[1]
    ok(guarded.ask("PUT", at, admin, json=DOCUMENT), 201)
    ok(guarded.ask("PATCH", at, admin, json={"policy": {"alpha": 0.5}}, headers={"x-request-id": "r-1"}))
    ok(guarded.ask("PATCH", f"{at}/arms/a", admin, json={"status": "paused"}))
    ok(guarded.ask("PUT", f"{at}/arms/d", admin, json={}), 201)
    assert guarded.ask("DELETE", f"{at}/arms/d", admin).status_code == 204
    assert guarded.ask("PATCH", at, admin, json={"nothing": 1}).status_code == 422
    assert guarded.ask("DELETE", f"{at}?confirm={name}", admin).status_code == 204
    found = ok(guarded.ask("GET", f"/v1/audit?experiment={name}", admin))["entries"]
    assert [(each["action"], each["target"]) for each in reversed(found)] == [
        ("experiment.create", name), ("experiment.change", name), ("arm.change", f"{name}/a"),
        ("arm.create", f"{name}/d"), ("arm.retire", f"{name}/d"), ("experiment.delete", name),
    ]  # fmt: skip
    changed = found[4]
    assert changed["actor"] == f"{id_} first admin key"
    assert (changed["role"], changed["address"], changed["request_id"]) == ("admin", "127.0.0.1", "r-1")
    assert changed["after"]["/policy"]["alpha"] == 0.5 if "/policy" in changed["after"] else True
    assert found[3]["after"]["/arms/a/status"] == "paused"
    assert found[3]["before"]["/arms/a/status"] == "active"
    assert {each["outcome"] for each in found} == {"done"}
    pages, cursor = [], ""
    while cursor is not None:
        page = ok(guarded.ask("GET", f"/v1/audit?limit=2&experiment={name}&cursor={cursor}", admin))
        pages += page["entries"]
        cursor = page.get("next")
    assert pages == found


def test_changes_of_keys_are_in_the_audit_log_without_their_hash(guarded: Guarded) -> None:
    """What was made, rotated and revoked, by whom."""
    made = guarded.keyring.create(Wanted("audited key", ("read",)))
    new = guarded.keyring.rotate(made.row.id, 3_600_000).row
    guarded.keyring.revoke(made.row.id)
    answer = guarded.ask("GET", "/v1/audit?limit=10", guarded.keys["admin"])
    rotated = next(each for each in ok(answer)["entries"] if each["target"] == new.id)
    added = {f"/{new.id}/{name}" for name in ("name", "role", "created", "replaces")}
    assert rotated["after"].keys() == added | {f"/{made.row.id}/expires"}  # what has changed alone
    assert "before" not in rotated
    assert all(re.fullmatch(r"....-..-..T..:..:..\....Z", rotated["after"][at])
               for at in (f"/{new.id}/created", f"/{made.row.id}/expires"))  # fmt: skip
    mine = [each for each in ok(answer)["entries"] if each["target"] == made.row.id]
    assert [each["action"] for each in mine] == ["key.revoke", "key.create"]
    assert made.text not in answer.text
    assert "hash" not in answer.text
