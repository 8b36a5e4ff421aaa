"""The gate: whether a request may be answered, by its key, its role, its experiment and its rate.

Nothing is open but what `OPEN` and `PAGES` name: an address that is not known here needs a key, whatever serves it.
Both ways of a request come here: `process.direct` with what it found in a head, `api.app.Front` with a scope.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import msgspec

from bandit.access.keys import ADMIN, READ, WRITE, Limit
from bandit.access.limits import Limits, Standing
from bandit.access.ring import ANYBODY, Grant, Ring, Source
from bandit.errors import Code, Fault, Problem
from bandit.serving.access.cors import Cors
from bandit.serving.access.hosts import is_ours
from bandit.serving.api.problems import Answer, details, problem_answer
from bandit.settings import Settings

Headers = Iterable[tuple[bytes, bytes]]
Lines = tuple[tuple[bytes, bytes], ...]

OPEN = frozenset(("/healthz", "/readyz", "/v1/version", "/openapi.json"))  # with a key /readyz says more
PAGES = re.compile(r"/(docs|static-offline-docs|dashboard)(/.*)?")  # static: what they show comes with a key
EVERY = "*"  # in the place of an experiment: nobody may touch it who may not touch all
ANY = ""  # the role of what every key may ask
_WRITES = re.compile(
    r"/v1/(recommendations|feedback|experiments/[^/]+/(recommendations|activations|feedback)(/batch)?)"
)
_PREVIEW = re.compile(r"/v1/experiments/[^/]+/preview")  # changes nothing
_ADMINS = re.compile(r"/v1/(audit|keys)(/.*)?")
_EVERYTHING = re.compile(r"/metrics")  # tells of all experiments
_EXPERIMENT = re.compile(r"/v1/experiments/([^/]+)(/.*)?", re.DOTALL)
_READING = ("GET", "HEAD", "OPTIONS")
NO_KEY = b""
ODD = b" "  # the credential of a request that says two things, or none in a way known here: no key is so

REALM = b'Bearer realm="bandit-server"'
_EXPECTED = "Authorization: Bearer KEY, or X-API-Key: KEY"


class Verdict(NamedTuple):
    """What the gate says.

    Attributes:
        grant: what the request may do.
        refusal: the answer, where it is refused.
        headers: for whatever answer there is.
        problem: what the refusal says.
    """

    grant: Grant
    refusal: Answer | None = None
    headers: Lines = ()
    problem: Problem | None = None


def needed(method: str, path: str) -> str | None:
    """The role that a request needs; None where it needs no key. Whatever is not named here needs `read`, or `admin`
    where it could change something.
    """
    reading = method in _READING
    if path in OPEN or (reading and PAGES.fullmatch(path)):
        return None
    if path == "/v1/whoami":
        return ANY
    if _ADMINS.fullmatch(path):
        return ADMIN
    if reading or (method == "POST" and _PREVIEW.fullmatch(path)):
        return READ
    return WRITE if method == "POST" and _WRITES.fullmatch(path) else ADMIN


def credential_in(headers: Headers) -> bytes:
    """The key that a request's headers have: NO_KEY where they have none, ODD where it is not clear which."""
    found = set[bytes]()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            found.add(key.strip() if scheme.lower() == b"bearer" else ODD)
        elif name == b"x-api-key":
            found.add(value.strip())
    return NO_KEY if not found else found.pop() or ODD if len(found) == 1 else ODD


class Gate:
    """Lets requests in. Lives on the event loop, but for its ring, which a thread keeps up to date.

    Args:
        settings: whether keys are asked for, and which origins are let in.
        store: where the keys are.
        limits: where requests are counted; by default for this process alone.
    """

    def __init__(self, settings: Settings, store: Source, limits: Limits | None = None) -> None:
        self.on = settings.auth_on
        self.any_host = self.on or settings.auth == "off"
        self.ring = Ring(store)
        self.limits = limits or Limits()
        self.cors = Cors(settings.origins) if settings.origins else None

    def admit(self, credential: bytes, role: str, experiment: str | None) -> Verdict:
        """Whether a key may do what needs this role, with this experiment, now.

        Args:
            credential: of `credential_in`.
            role: of `needed`.
            experiment: None where it is none in particular.
        """
        if not self.on:
            return Verdict(ANYBODY)
        grant = self.ring.find(credential)
        if grant is None:
            return self._unknown(credential)
        if not _has(grant, role):
            need = f"this needs the role {role}; the key has {grant.role}"
            return _refused(grant, Problem(Code.FORBIDDEN, need))
        if experiment is not None and not grant.may_touch(experiment):
            return _refused(grant, not_its_own())
        if grant.limit is None:
            return Verdict(grant)
        standing = self.limits.take(grant.id or "", grant.place, grant.limit)
        if standing.admitted:
            return Verdict(grant, None, _told(standing))
        return _refused(grant, too_often(standing), _told(standing))

    def judge(self, method: str, path: str, headers: Headers) -> Verdict:
        """Whether a request may be answered."""
        role = needed(method, path)
        if not self.on and not all(self.takes(value) for name, value in headers if name == b"host"):
            return Verdict(NOTHING) if role is None else _STRANGE
        if role is None or not self.on:
            return Verdict(ANYBODY if not self.on else self._whoever(headers))
        named = _EXPERIMENT.fullmatch(path)
        experiment = EVERY if _EVERYTHING.fullmatch(path) else named[1] if named else None
        return self.admit(credential_in(headers), role, experiment)

    def takes(self, host: bytes) -> bool:
        """Whether requests to this `Host` are let in: by keys, or as no page of another site can make them."""
        return self.any_host or is_ours(host)

    def _whoever(self, headers: Headers) -> Grant:
        """Of what needs no key: the grant of the key that came all the same."""
        credential = credential_in(headers)
        return NOTHING if credential in (NO_KEY, ODD) else self.ring.find(credential) or NOTHING

    def charge(self, grant: Grant, cost: int) -> None:
        """Count more requests of a grant: the items of a batch after the first.

        Raises:
            Problem: rate_limited, or invalid_request where there are more than the whole quota; then none is counted.
        """
        if grant.limit is None or cost < 1:
            return
        if cost >= grant.limit.quota:
            fault = Fault("", f"at most {grant.limit.quota} items, as often as the key may be used", f"{cost + 1}")
            raise Problem(Code.INVALID_REQUEST, "the key may never be used so often at once", [fault])
        standing = self.limits.take(grant.id or "", grant.place, grant.limit, cost)
        if not standing.admitted:
            raise too_often(standing)

    def _unknown(self, credential: bytes) -> Verdict:
        if not self.ring.loaded.is_set():
            return _refused(NOTHING, Problem(Code.NOT_READY, "the API keys are not read yet; try again in a second"))
        return {NO_KEY: _NONE, ODD: _ODD}.get(credential, _WRONG)


NOTHING = Grant(None, "nobody", "", False, False, False, frozenset())  # what may be asked without a key, and no more


def _has(grant: Grant, role: str) -> bool:
    return role == ANY or grant.admin or (role == READ and grant.reads) or (role == WRITE and grant.writes)


def not_its_own() -> Problem:
    """The problem of a key that is for other experiments; it does not say whether there is such an experiment."""
    return Problem(Code.FORBIDDEN, "the key is for certain experiments, and this is none of them")


def too_often(standing: Standing) -> Problem:
    """The problem of a key whose quota is used up."""
    limit = f"the key may be used {standing.limit.quota} times in {standing.limit.seconds} s"
    return Problem(Code.RATE_LIMITED, f"{limit}; try again in {standing.seconds} s", wait=standing.seconds)


def _told(standing: Standing) -> Lines:
    """RateLimit and RateLimit-Policy, as draft-ietf-httpapi-ratelimit-headers-10 has them."""
    return (_policy(standing.limit), (b"ratelimit", b'"key";r=%d;t=%d' % (standing.left, standing.seconds)))


@cache
def _policy(limit: Limit) -> tuple[bytes, bytes]:  # of at most as many limits as there are keys
    return (b"ratelimit-policy", b'"key";q=%d;w=%d' % (limit.quota, limit.seconds))


def _refused(grant: Grant, problem: Problem, headers: Lines = ()) -> Verdict:
    return Verdict(grant, problem_answer(problem), headers, problem)


def _nobody(detail: str, came: bool) -> Verdict:
    """A 401, made once: refusing costs next to nothing."""
    problem = Problem(Code.UNAUTHENTICATED, detail)
    challenge = REALM + b', error="invalid_token"' if came else REALM
    headers = ((b"content-type", b"application/problem+json"), (b"www-authenticate", challenge))
    return Verdict(NOTHING, Answer(401, headers, msgspec.json.encode(details(problem))), (), problem)


_STRANGE = _refused(
    NOTHING,
    Problem(
        Code.FORBIDDEN,
        "this server asks for no keys, so the Host header must be an address, localhost or a name without a dot:"
        " start it with --auth and keys, or with --no-auth to take any name",
    ),
)
_NONE = _nobody(f"this needs an API key: expected {_EXPECTED}, got neither", False)
_ODD = _nobody(f"expected one key, as {_EXPECTED}; got another scheme, an empty key, or two that differ", True)
_WRONG = _nobody("the API key is not one of this server's: it is mistyped, revoked, or has expired", True)
