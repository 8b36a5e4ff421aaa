"""The Python client against a real HTTP server that fails on purpose, one planned answer at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from planned import CHOICE, CREDITED, CUT, HELD, Answer, problem, talk

from bandit.client import Client, ClientError, Counts


def recommend(client: Client) -> Awaitable[Any]:
    """The plainest question."""
    return client.recommend("home", {"age": 41.0})


@pytest.mark.parametrize(
    "failure",
    [problem(503, "overloaded"), problem(429, "rate_limited"), Answer(b"<html>", 502), CUT, HELD],
    ids=["503", "429", "proxy", "cut", "held"],
)
def test_every_repeat_carries_the_same_decision_id(failure: Answer) -> None:
    """Whatever passes by itself is met with the very same request, so the server can know it again."""
    choice, requests = talk([failure, failure, Answer(CHOICE)], recommend, timeout=0.2)
    assert choice.arm == "a"
    assert [r.body for r in requests] == [requests[0].body] * 3
    assert len(requests[0].body["decision_id"]) == 32


def test_each_call_names_a_decision_of_its_own() -> None:
    """Two calls are two decisions, unless the caller says otherwise."""

    async def twice(client: Client) -> None:
        await recommend(client)
        await recommend(client)
        await client.recommend("home", {}, decision_id="mine")

    _, requests = talk([Answer(CHOICE)], twice)
    ids = [r.body["decision_id"] for r in requests]
    assert len(set(ids)) == 3
    assert ids[2] == "mine"


def test_only_what_was_given_is_sent() -> None:
    """Unknown and superfluous fields are refused by servers: defaults stay out of the body."""

    async def both(client: Client) -> None:
        await client.recommend("home", {"age": 1.0}, decision_id="d")
        await client.recommend(
            "home", {}, decision_id="d", user_id="u", k=2, candidates=["a", "b"], exclude=[], defer=True
        )

    _, requests = talk([Answer(CHOICE)], both)
    assert requests[0].body == {"context": {"age": 1.0}, "decision_id": "d"}
    full = {"user_id": "u", "k": 2, "candidates": ["a", "b"], "exclude": [], "defer": True}
    assert requests[1].body == {"context": {}, "decision_id": "d", **full}
    assert {(r.method, r.path) for r in requests} == {("POST", "/v1/experiments/home/recommendations")}


class Timestamp(datetime):
    """A subclass, as pandas' is."""


class NaTType(datetime):
    """pandas' word for no time: of this name, and equal to nothing."""


class NAType:
    """pandas' word for nothing: it is neither true nor false."""

    def __bool__(self) -> bool:
        raise TypeError

    def __repr__(self) -> str:
        return "<NA>"


DAY = datetime(2024, 5, 17, 8, 30, tzinfo=UTC)
SCALARS = [
    (np.float32(1.5), 1.5),
    (np.float64(0.1), 0.1),
    (np.float64("nan"), None),
    (np.int8(-3), -3),
    (np.uint64(2**63), 2**63),
    (np.bool_(True), True),
    (np.str_("us"), "us"),
    (np.array(2.5), 2.5),
    (np.datetime64("2024-05-17"), "2024-05-17"),
    (np.datetime64("2024-05-17T08:30:00.000000000"), "2024-05-17T08:30:00"),
    (np.datetime64("NaT", "s"), None),
    (Timestamp(2024, 5, 17, 8, 30, tzinfo=UTC), "2024-05-17T08:30:00Z"),
    (NaTType(1, 1, 1), None),
    (NAType(), None),
    (DAY, "2024-05-17T08:30:00Z"),
    (DAY.date(), "2024-05-17"),
    (Decimal("12.50"), 12.5),
    (MappingProxyType({"a": np.int64(1)}), {"a": 1}),
]


@pytest.mark.parametrize(("value", "sent"), SCALARS, ids=repr)
def test_scalars_of_numpy_and_pandas_dates_and_decimals_are_sent_as_they_are(value: Any, sent: Any) -> None:
    """In a context, alone and in a list, and as a value; what each is in JSON, by hand."""

    async def both(client: Client) -> None:
        await client.recommend("home", MappingProxyType({"x": value, "y": [value]}))
        await client.feedback("home", decision_id="d", event="click", value=value, event_id="e")

    _, requests = talk([Answer(CHOICE), Answer(CREDITED)], both)
    assert [r.body.get("context") or r.body["value"] for r in requests] == [{"x": sent, "y": [sent]}, sent]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (np.str_("u1"), "u1"),
        (np.int64(1001), "1001"),
        (1001, "1001"),
        (np.float64(1001), "1001"),  # pandas keeps whole numbers so where some are missing
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (DAY.date(), "2024-05-17"),
        (Decimal(7), "7"),
    ],
    ids=repr,
)
def test_ids_are_sent_as_text(given: Any, sent: str) -> None:
    """Ids of decisions, users and events, and names of arms, from whatever a table keeps them in."""

    async def each(client: Client) -> None:
        await client.recommend("home", {}, decision_id=given, user_id=given, candidates=np.array(["a", "b"]))
        await client.feedback("home", decision_id=given, user_id=given, event=np.str_("click"), event_id=given)
        await client.activate("home", given)

    _, requests = talk([Answer(CHOICE), Answer(CREDITED)], each)
    ids = {"decision_id": sent, "user_id": sent}
    assert requests[0].body == {"context": {}, **ids, "candidates": ["a", "b"]}
    assert requests[1].body == {"event": "click", **ids, "event_id": sent}
    assert requests[2].body == {"decision_id": sent}


@pytest.mark.parametrize("wrong", [True, 1.5, float("nan"), 2.0**60, b"u", NAType(), [1]], ids=repr)
def test_what_is_no_id_is_refused_before_it_is_sent(wrong: Any) -> None:
    """Written somehow, two users would become one, or one two."""

    async def ask(client: Client) -> None:
        with pytest.raises(TypeError, match="expected an id"):
            await client.recommend("home", {}, user_id=wrong)

    assert talk([Answer(CHOICE)], ask) == (None, [])


LISTS: dict[str, Callable[[Client, Any], Awaitable[Any]]] = {
    "candidates": lambda c, wrong: c.recommend("home", {}, candidates=wrong),
    "exclude": lambda c, wrong: c.recommend("home", {}, exclude=wrong),
    "experiments": lambda c, wrong: c.recommend_several(wrong, {}),
    "requests": lambda c, wrong: c.recommend_batch("home", wrong),
    "events": lambda c, wrong: c.feedback_batch("home", wrong),
    "activations": lambda c, wrong: c.activate_batch("home", wrong),
    "arms": lambda c, wrong: c.put_arms("home", wrong),
    "targets": lambda c, wrong: c.evaluation("home", targets=wrong),
}


@pytest.mark.parametrize("call", LISTS)
@pytest.mark.parametrize(
    "wrong", ["a", b"a", {"a": {"payload": 1}}, np.array([["a"]]), 7], ids=lambda w: type(w).__name__
)
def test_what_is_no_list_is_refused_before_it_is_sent(call: str, wrong: Any) -> None:
    """Of a mapping the keys alone would be sent, of a text its characters; only experiments may be a mapping."""
    if call == "experiments" and isinstance(wrong, dict):
        return

    async def ask(client: Client) -> None:
        with pytest.raises(TypeError, match=f"expected a list of .*; got {type(wrong).__name__}"):
            await LISTS[call](client, wrong)

    assert talk([Answer({})], ask) == (None, [])


def test_arms_by_name_are_told_how_they_are_listed() -> None:
    """It was taken for a list of bare names, and threw conditions and payloads away."""

    async def ask(client: Client) -> None:
        wrong: Any = {"a": {"payload": 1}}
        with pytest.raises(TypeError, match="a list of arms' names, or of objects with an `id`; got dict"):
            await client.put_arms("home", wrong)
        await client.put_arms("home", (each for each in ("a", {"id": "b"})))

    _, requests = talk([Answer({})], ask)
    assert [r.body for r in requests] == [["a", {"id": "b"}]]


def test_feedback_about_nothing_is_refused_at_once() -> None:
    """Such as that of a fallback, whose decision_id is None: it was taken, and lost later."""
    about: Any = {"event": "click", "decision_id": None}

    async def tell(client: Client) -> None:
        with pytest.raises(ValueError, match="expected a decision_id or a user_id"):
            client.enqueue_feedback("home", **about)
        with pytest.raises(ValueError, match="expected a decision_id or a user_id"):
            await client.feedback("home", **about)
        with pytest.raises(ValueError, match="expected a decision_id or a user_id"):
            await client.feedback_batch("home", [about])
        assert client.feedback_counts == Counts()

    assert talk([Answer({})], tell) == (None, [])


def test_a_dry_run_of_an_arm_is_asked_for_in_the_query() -> None:
    """And nowhere else; a deletion that is only tried may be sent again, and has an answer."""

    async def each(client: Client) -> Any:
        await client.put_arms("home", ["a"], dry_run=True)
        await client.put_arm("home", "a", {}, dry_run=True)
        await client.patch_arm("home", "a", {}, dry_run=True)
        tried = await client.delete_arm("home", "a", dry_run=True)
        await client.put_arms("home", ["a"])
        await client.delete_arm("home", "a")
        return tried

    plan = {"dry_run": True, "changes": []}
    tried, requests = talk([Answer(plan)] * 3 + [CUT, Answer(plan)], each)
    assert tried == plan
    place = "/v1/experiments/home/arms"
    assert [(r.method, r.path) for r in requests] == [
        ("PUT", f"{place}?dry_run=true"),
        ("PUT", f"{place}/a?dry_run=true"),
        ("PATCH", f"{place}/a?dry_run=true"),
        *[("DELETE", f"{place}/a?dry_run=true")] * 2,
        ("PUT", place),
        ("DELETE", f"{place}/a"),
    ]


@pytest.mark.parametrize(
    "wrong", [np.array([1, 2]), np.timedelta64(1, "s"), object()], ids=lambda each: str(type(each))
)
def test_what_cannot_be_sent_is_named(wrong: Any) -> None:
    """The type that came, and what there may be."""

    async def ask(client: Client) -> None:
        with pytest.raises(TypeError, match=f"a date or None; got {type(wrong).__name__}"):
            await client.recommend("home", {"x": wrong})

    assert talk([Answer(CHOICE)], ask) == (None, [])


def test_a_refusal_is_raised_at_once_with_all_it_says() -> None:
    """What the caller did wrong does not pass by waiting."""
    fault = {"pointer": "/context/age", "expected": "number", "got": "string"}
    error, requests = talk([problem(422, "invalid_context", detail="age", errors=[fault])], recommend)
    assert (error.status, error.code, error.detail, error.errors) == (422, "invalid_context", "age", [fault])
    assert len(requests) == 1


def test_retry_after_is_waited_for() -> None:
    """A server that asks for a second gets it."""
    busy = problem(429, "rate_limited", headers={"Retry-After": "1"})
    _, requests = talk([busy, Answer(CHOICE)], recommend)
    assert requests[1].at - requests[0].at >= 1.0


def test_a_retry_after_beyond_the_deadline_ends_the_call() -> None:
    """Waiting for what cannot be in time helps nobody: the refusal is raised at once and says when to come back."""
    error, requests = talk([problem(503, "not_ready", headers={"Retry-After": "60"})], recommend, decision_deadline=5.0)
    assert (error.status, error.code, error.retry_after) == (503, "not_ready", 60.0)
    assert len(requests) == 1


def test_the_deadline_bounds_a_call_however_it_fails() -> None:
    """An attempt that hangs is cut short by the call's own deadline, although one attempt may take longer."""
    start = time.monotonic()
    error, requests = talk([HELD], recommend, timeout=30.0, decision_deadline=0.3)
    assert (error.status, error.code) == (0, "unreachable")
    assert time.monotonic() - start < 5.0  # far below the 30 s of one attempt, far above a slow machine's 0.3 s
    assert len(requests) == 1


def test_a_server_that_is_away_is_an_error_of_ours() -> None:
    """Foreign exceptions do not leave the client; the cause stays attached."""

    async def main() -> ClientError:
        async with Client("http://127.0.0.1:9", decision_deadline=0.2) as client:  # port 9: discard, served nowhere
            assert not await client.ready()
            with pytest.raises(ClientError) as caught:
                await recommend(client)
            return caught.value

    error = asyncio.run(main())
    assert (error.status, error.code) == (0, "unreachable")
    assert isinstance(error.__cause__, OSError)


def test_a_malformed_answer_is_an_error_of_ours() -> None:
    """A 200 that is no answer (a login page) is named so, and not repeated."""
    error, requests = talk([Answer(b"<html>")], recommend)
    assert (error.status, error.code) == (200, "malformed_answer")
    assert len(requests) == 1


def test_a_redirect_is_not_followed() -> None:
    """A POST must not be sent on, with its key, to wherever an answer points."""
    error, requests = talk([Answer(b"", 302, {"Location": "http://127.0.0.1:9/"})], recommend, api_key="k")
    assert error.status == HTTPStatus.FOUND
    assert [r.headers["authorization"] for r in requests] == ["Bearer k"]


def test_a_key_comes_from_the_caller_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given wins; an empty one sends none, and so does a variable that is set to nothing."""
    sent = []
    for variable, given in (("e", None), ("e", "k"), ("e", ""), ("", None)):
        monkeypatch.setenv("BANDIT_API_KEY", variable)
        _, requests = talk([Answer(CHOICE)], recommend, api_key=given)
        sent.append(requests[0].headers.get("authorization"))
    assert sent == ["Bearer e", "Bearer k", None, None]


def test_a_key_that_is_refused_is_told_at_once() -> None:
    """401 and 403 are the caller's own: they are not repeated, and no fallback hides them."""
    for status, code in ((401, "unauthenticated"), (403, "forbidden")):
        error, requests = talk([problem(status, code)], lambda c: c.recommend("home", {}, fallback="a"), api_key="k")
        assert (error.status, error.code, len(requests)) == (status, code, 1)


def test_a_used_up_quota_is_waited_for() -> None:
    """As long as Retry-After says, where the deadline allows that; else the refusal is told at once."""
    limited = problem(429, "rate_limited", headers={"Retry-After": "1"})
    choice, requests = talk([limited, Answer(CHOICE)], recommend, decision_deadline=20)
    assert choice.arm == "a"
    assert requests[1].at - requests[0].at >= 1
    error, requests = talk([problem(429, "rate_limited", headers={"Retry-After": "60"})], recommend)
    assert (error.status, error.retry_after, len(requests)) == (429, 60, 1)


def test_feedback_under_sum_and_first_has_no_id_of_ours() -> None:
    """By hand from the contract: the id left out is the kind's name, which makes a repeat a duplicate already."""
    document = {"rewards": {"click": {}, "sale": {"aggregation": "first"}}}

    async def use(client: Client) -> None:
        await client.feedback("home", decision_id="d", event="click")
        await client.feedback("home", user_id="u", event="sale", value=2.5, event_id="order-7", arm="a")
        await client.feedback("home", user_id="u", event="sale", event_id="back-7", refund_of="order-7")
        await client.feedback("home", decision_id="d", event="sale")

    _, requests = talk([Answer(document), Answer(CREDITED)], use)
    assert [r.method for r in requests] == ["GET", *["POST"] * 4]  # the kinds are asked for once
    assert [r.body for r in requests[1:]] == [
        {"event": "click", "decision_id": "d"},
        {"event": "sale", "value": 2.5, "user_id": "u", "event_id": "order-7", "arm": "a"},
        {"event": "sale", "user_id": "u", "event_id": "back-7", "refund_of": "order-7"},
        {"event": "sale", "decision_id": "d"},
    ]


def test_feedback_under_last_repeats_one_id_of_ours() -> None:
    """Without an id a held-up first attempt could undo a newer value: each event has its id, each repeat the same."""
    document = {"rewards": {"seconds": {"aggregation": "last", "range": [0, 60]}}}

    async def use(client: Client) -> None:
        await client.put_experiment("home", document)
        await client.feedback("home", decision_id="d", event="seconds", value=30)
        await client.feedback("home", decision_id="d", event="seconds", value=45)

    _, requests = talk([Answer(document), CUT, Answer(CREDITED)], use)
    assert [r.method for r in requests] == ["PUT", "POST", "POST", "POST"]  # creating it told the kinds
    first, repeat, second = (r.body["event_id"] for r in requests[1:])
    assert first == repeat != second


def test_a_key_that_may_not_read_the_experiment_can_still_send_feedback() -> None:
    """Then the default aggregation is taken, and nobody is asked again."""

    async def use(client: Client) -> Any:
        await client.feedback("home", decision_id="d", event="click")
        return await client.feedback("home", decision_id="d", event="click")

    receipt, requests = talk([problem(403, "forbidden"), Answer(CREDITED)], use)
    assert (receipt.status, receipt.credited) == ("accepted", 1.0)
    assert [r.method for r in requests] == ["GET", "POST", "POST"]
    assert "event_id" not in requests[1].body


def test_activation_and_readiness_are_asked_where_the_contract_says() -> None:
    """Paths and bodies of the two smallest calls."""

    async def use(client: Client) -> tuple[str, bool]:
        return (await client.activate("home", "d")).status, await client.ready()

    answer, requests = talk([Answer({"status": "activated"}), Answer({"ready": True})], use)
    assert answer == ("activated", True)
    assert [(r.method, r.path, r.body) for r in requests] == [
        ("POST", "/v1/experiments/home/activations", {"decision_id": "d"}),
        ("GET", "/readyz", None),
    ]


def test_readiness_is_not_waited_for() -> None:
    """A poller wants to know now."""
    answer, requests = talk([problem(503, "not_ready")], lambda client: client.ready())
    assert answer is False
    assert len(requests) == 1


def test_an_experiments_name_cannot_leave_its_place_in_the_path() -> None:
    """A name from elsewhere is percent-encoded."""
    _, requests = talk([Answer({})], lambda client: client.get_experiment("a/../b?c"))
    assert requests[0].path == "/v1/experiments/a%2F..%2Fb%3Fc"


@pytest.mark.parametrize(
    "failure", [problem(503, "overloaded"), problem(429, "rate_limited"), Answer(b"<html>", 502), CUT, HELD]
)
def test_a_reset_is_sent_once(failure: Answer) -> None:
    """Nobody knows whether it was done: a second one would throw away what was learned after the first."""
    use = lambda client: client.put_experiment("home", {"arms": ["a"]}, reset=True)  # noqa: E731
    error, requests = talk([failure, Answer({})], use, timeout=0.2)
    assert isinstance(error, ClientError)
    assert [(r.method, r.path, r.body) for r in requests] == [
        ("PUT", "/v1/experiments/home?reset=true", {"arms": ["a"]})
    ]


def test_without_a_reset_a_document_is_sent_again() -> None:
    """The same document twice is the same experiment."""
    answer, requests = talk(
        [CUT, problem(503, "overloaded"), Answer({"version": 2})], lambda client: client.put_experiment("home", {})
    )
    assert answer == {"version": 2}
    assert [r.path for r in requests] == ["/v1/experiments/home"] * 3


@pytest.mark.parametrize(
    "url",
    [
        "http://:a#hunter2@there",
        "http://user:1#hunter2@there",
        "http://user:1?hunter2@there",
        "http://user:1/hunter2@there",
        "http://user:hunter2@there:99999",
        "http://user:hunter2@[there",
        "ftp://user:hunter2@there",
        "user:hunter2@there",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    """The half before a bare sign would be taken for host and port, and shown in every error."""
    with pytest.raises(ValueError, match="url must be like") as caught:
        Client(url)
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_away_is_told_of_without_the_password() -> None:
    """Its address is."""

    async def ask() -> None:
        async with Client("http://user:hunter2@127.0.0.1:1/path", deadline=0.1) as client:
            await client.get_experiment("home")

    with pytest.raises(ClientError, match=r"no answer from http://\*\*\*@127.0.0.1:1/path") as caught:
        asyncio.run(ask())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://host?a=b", "http://host#a", ""])
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    """Rather than repeated until a deadline."""
    with pytest.raises(ValueError, match="url must be like"):
        Client(url)


def test_calls_outside_the_context_say_what_to_do() -> None:
    """The pool lives as long as the `async with` block."""
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(Client("http://127.0.0.1:9").get_experiment("home"))
