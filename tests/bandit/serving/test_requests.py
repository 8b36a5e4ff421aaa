"""Requests, from bytes to what a batcher logs: strict JSON, names and limits, and a place for each fault."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from asking import CONTEXT, EXPERIMENT, FREE, QUIETLY, SECRET, asked, compiled, digest, read, refused
from hypothesis import given
from hypothesis import strategies as st

from bandit.errors import Code, Problem
from bandit.log.records import Position, decision_id
from bandit.serving.feedback import read_activation, read_feedback
from bandit.serving.reading import read_json
from bandit.serving.requests import read_batch, read_recommendation
from bandit.store.protocol import NO_ARM

WRONG_JSON = [
    b"",
    b" ",
    b"{",
    b"nonsense",
    b'{"context":{"age":NaN}}',
    b'{"context":{"age":Infinity}}',
    b'{"context":{"age":-Infinity}}',
    b'{"context":{"age":1e999}}',
    b'{"context":{"age":1%b}}' % (b"0" * 400),
    b'{"context":{"age":-1%b}}' % (b"0" * 309),
    b'{"context":{"age":[{"a":1%b}]}}' % (b"0" * 400),
    b'{"context":{},"k":1%b,"event":"click","value":1}' % (b"0" * 400),
    b'{"decision_id":"d","event":"click","value":1%b}' % (b"0" * 400),
    b'{"unknown":1%b}' % (b"0" * 400),
    b'{"context":{"age":01}}',
    b'{"context":{"age":1}} trailing',
    b'{"context":{"age":"x"}, NaN}',  # the fault of type comes first, and is not what is told
    b'{"context":{"age":"\xff"}}',
    b'{"context":{"\\ud800":1}}',
    b'{"context":{"age":"\\udc00"}}',
    b"{'context':{}}",
    b'\xef\xbb\xbf{"context":{}}',
    '{"context":{"age":1}}'.encode("utf-16"),
    b'{"context":{"country":"a\x00b"}}',
]


@pytest.mark.parametrize("text", WRONG_JSON)
def test_what_is_not_strict_json_in_utf_8_is_malformed(text: bytes) -> None:
    """NaN, Infinity, 1e999 or its digits, half a surrogate pair, bad UTF-8: one code, wherever it stands."""
    for reader in (read_recommendation, read_feedback, read_activation):
        with pytest.raises(Problem) as caught:
            reader(EXPERIMENT, text, SECRET)
        assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize("open_close", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_limited_to_32(open_close: tuple[bytes, bytes]) -> None:
    """32 levels are JSON, whatever else is wrong with it; 33 are malformed, and so are 100,000."""
    left, right = open_close
    assert read_json(left * 32 + b"1" + right * 32)
    for depth in (33, 500, 100_000):
        assert refused(lambda depth=depth: read_json(left * depth + b"1" + right * depth)) == (Code.MALFORMED, [])


def test_brackets_within_a_text_are_no_nesting() -> None:
    """Also where there are no others: it was an error of the server."""
    assert read_json(b'"' + b"[" * 40 + b'"') == "[" * 40


@pytest.mark.parametrize("where", ['{"context":%s}', '{"context":{"age":%s}}', '{"unknown":%s}', '{"candidates":%s}'])
def test_a_request_nested_too_deeply_is_malformed_wherever_it_is(where: str) -> None:
    """In the context, a feature, an unknown field: deep junk is told by its depth, and costs little."""
    for depth in (40, 5_000, 100_000):
        text = (where % ("[" * depth + "]" * depth)).encode()
        for reader in (read_recommendation, read_feedback, read_activation):
            with pytest.raises(Problem, match="nested too deeply"):
                reader(EXPERIMENT, text, SECRET)


def test_a_batch_nested_too_deeply_is_malformed_whether_it_ends_or_not() -> None:
    """An item that never ends was an error of the server."""
    for depth in (40, 995, 5_000, 100_000):
        with pytest.raises(Problem) as caught:
            read_batch(b'{"requests":[' + b"[" * depth)
        assert caught.value.code == Code.MALFORMED


def test_of_a_name_given_twice_the_last_value_counts() -> None:
    """JSON leaves it open; here it is decided: at the top and within the context."""
    text = b'{"context":{"age":1,"new":true,"country":"us","age":40},"k":1,"k":2}'
    request = read_recommendation(EXPERIMENT, text, SECRET)
    assert request.k == 2
    assert digest(request) == digest(asked(context=CONTEXT | {"age": 40}, k=2))


FAULTY = [
    ({"context": {"age": "31", "new": True, "country": "us"}}, Code.INVALID_CONTEXT, ["/context/age"]),
    ({"context": {"age": True, "new": 1, "country": "us"}}, Code.INVALID_CONTEXT, ["/context/age", "/context/new"]),
    ({"context": {"age": None, "new": True, "country": "us"}}, Code.INVALID_CONTEXT, ["/context/age"]),
    ({"context": {"age": [31], "new": True, "country": "us"}}, Code.INVALID_CONTEXT, ["/context/age"]),
    ({"context": {"age": 1, "new": True, "country": "fr"}}, Code.INVALID_CONTEXT, ["/context/country"]),
    ({"context": {}}, Code.INVALID_CONTEXT, ["/context/age", "/context/new", "/context/country"]),
    ({"context": CONTEXT | {"aeg": 1, "a/b": 2}}, Code.INVALID_CONTEXT, ["/context/aeg", "/context/a~1b"]),
    ({"context": []}, Code.INVALID_CONTEXT, ["/context"]),
    ({"context": None}, Code.INVALID_CONTEXT, ["/context"]),
    ({}, Code.INVALID_REQUEST, ["/context"]),
    ([], Code.INVALID_REQUEST, [""]),
    ({"context": CONTEXT, "unknown": 1}, Code.INVALID_REQUEST, ["/unknown"]),
    ({"context": CONTEXT, "k": 0}, Code.INVALID_REQUEST, ["/k"]),
    ({"context": CONTEXT, "k": True}, Code.INVALID_REQUEST, ["/k"]),
    ({"context": CONTEXT, "k": 1.5}, Code.INVALID_REQUEST, ["/k"]),
    ({"context": CONTEXT, "k": 10_001}, Code.INVALID_REQUEST, ["/k"]),
    ({"context": CONTEXT, "k": 4}, Code.NOT_ENOUGH_ARMS, ["/k"]),
    ({"context": CONTEXT, "k": 3, "exclude": ["a"]}, Code.NOT_ENOUGH_ARMS, ["/k"]),
    ({"context": CONTEXT, "candidates": ["a"], "exclude": ["a"]}, Code.NOT_ENOUGH_ARMS, ["/exclude"]),
    ({"context": CONTEXT, "candidates": []}, Code.INVALID_REQUEST, ["/candidates"]),
    ({"context": CONTEXT, "candidates": ["a", 1]}, Code.INVALID_REQUEST, ["/candidates/1"]),
    ({"context": CONTEXT, "candidates": ["a", ""]}, Code.INVALID_REQUEST, ["/candidates/1"]),
    ({"context": CONTEXT, "candidates": "a"}, Code.INVALID_REQUEST, ["/candidates"]),
    (
        {"context": CONTEXT, "candidates": ["a", "b", "a", "a"]},
        Code.INVALID_REQUEST,
        ["/candidates/2", "/candidates/3"],
    ),
    ({"context": CONTEXT, "candidates": ["a", "zz"]}, Code.UNKNOWN_ARM, ["/candidates/1"]),
    ({"context": CONTEXT, "candidates": ["a", "c"], "strict": True}, Code.UNKNOWN_ARM, ["/candidates/1"]),
    ({"context": CONTEXT, "exclude": ["zz"]}, Code.UNKNOWN_ARM, ["/exclude/0"]),
    ({"context": CONTEXT, "defer": 1}, Code.INVALID_REQUEST, ["/defer"]),
    ({"context": CONTEXT, "decision_id": "~x"}, Code.INVALID_REQUEST, ["/decision_id"]),
]


@pytest.mark.parametrize(("body", "code", "places"), FAULTY)
def test_a_faulty_recommendation_names_each_place(body: Any, code: Code, places: list[str]) -> None:
    """The code, and a pointer to each fault of the context, or to the first one elsewhere."""
    assert refused(lambda: read(body)) == (code, places)


@pytest.mark.parametrize(
    ("arms", "exclude", "fault"),
    [
        (["a", "b"], ["a", "b"], ("/exclude", "at least one arm left to show", "all of them")),
        ([{"id": "a", "status": "paused"}], ["a"], ("", "at least one arm left to show", "no active arm")),
        ([{"id": "a", "status": "paused"}], [], ("", "at least one arm left to show", "no active arm")),
    ],
)
def test_a_request_with_no_arm_left_is_told_why(arms: list[Any], exclude: list[str], fault: tuple[str, ...]) -> None:
    """By its own exclusions, or because the experiment has none; not by a k that it need not have sent."""
    with pytest.raises(Problem, match="no arm of 'e' may be shown") as caught:
        read({"context": CONTEXT, "exclude": exclude}, compiled(arms=arms))
    assert caught.value.faults == (fault,)


def test_more_than_ten_thousand_candidates_are_refused() -> None:
    """The limit stands for the list, whatever is in it."""
    assert refused(lambda: asked(candidates=["a"] * 10_001)) == (Code.INVALID_REQUEST, ["/candidates"])


def test_ten_thousand_candidates_are_read_and_their_repeats_are_found() -> None:
    """The largest list there may be, right and wrong."""
    names = [f"arm-{i}" for i in range(10_000)]
    experiment = compiled(arms=names)
    assert int(read({"context": CONTEXT, "candidates": names, "k": 10_000}, experiment).eligible.sum()) == 10_000
    code, places = refused(lambda: read({"context": CONTEXT, "candidates": names[:5000] * 2}, experiment))
    assert (code, len(places)) == (Code.INVALID_REQUEST, 5000)


@pytest.mark.parametrize("field", ["decision_id", "user_id"])
@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("x", True),
        ("x" * 256, True),
        ("é" * 256, True),
        ("😀" * 256, True),
        ("a b/c?d#e%f\\g", True),
        ("", False),
        ("x" * 257, False),
        ("a\nb", False),
        ("a\n", False),
        ("a\x00", False),
        ("a\x7f", False),
        ("a\x85", False),
        (5, False),
    ],
)
def test_ids_have_1_to_256_characters_and_none_of_control(field: str, value: Any, taken: bool) -> None:
    """Characters are counted, not bytes; a line end at the end is a control character too."""
    if taken:
        asked(**{field: value})
    else:
        assert refused(lambda: asked(**{field: value})) == (Code.INVALID_REQUEST, [f"/{field}"])


def test_ids_are_compared_by_code_points() -> None:
    """No normal form, no case folding: two spellings of é are two ids."""
    spellings = ["e\u0301", "\u00e9", "E\u0301", " \u00e9"]
    assert len({asked(decision_id=each).caller for each in spellings}) == 4
    assert len({asked(user_id=each).user for each in spellings}) == 4


def test_a_user_is_kept_as_a_keyed_hash() -> None:
    """The same user and key give the same 16 bytes, another key others; the id itself is nowhere."""
    body = json.dumps({"context": CONTEXT, "user_id": "alice"}).encode()
    one, other = (read_recommendation(EXPERIMENT, body, secret).user for secret in (b"s" * 32, b"t" * 32))
    assert len(one) == len(other) == 16
    assert one != other
    assert asked(user_id="alice").user == one


def test_a_number_out_of_every_range_is_clipped_and_denormals_and_minus_zero_are_numbers() -> None:
    """1e308 stands at the end of the grid, as does -1e308 at the other; 5e-324 and -0.0 are nothing special."""
    encode = EXPERIMENT.encoder.encode
    ages = [1e308, -1e308, 5e-324, -0.0, 0]
    columns = [int(encode([asked(context=CONTEXT | {"age": age}).context])[0, 1]) for age in ages]
    assert columns[:2] == [32767, -32768]
    assert columns[2:] == [round(-40 / 12 * 4096)] * 3


def test_without_features_the_context_may_be_left_out() -> None:
    """A context-free experiment takes no context or an empty one, and refuses any feature."""
    assert read({}, FREE).k == read({"context": {}}, FREE).k == 1
    assert refused(lambda: read({"context": {"age": 1}}, FREE)) == (Code.INVALID_CONTEXT, ["/context/age"])
    assert refused(lambda: read({"context": 5}, FREE)) == (Code.INVALID_CONTEXT, ["/context"])


def test_a_context_of_very_many_unknown_names_is_refused_quickly() -> None:
    """100,000 unknown names against 200 features are told of in part, not compared each with each."""
    features = [{"name": f"feature-{i:03d}", "type": "boolean"} for i in range(200)]
    experiment = compiled(features=features)
    context: dict[str, Any] = {f"featuer-{i}": 1 for i in range(100_000)}
    code, places = refused(lambda: read({"context": context}, experiment))
    assert code == Code.INVALID_CONTEXT
    assert len(places) == 200 + 20


def feedback(**body: Any) -> Any:
    """Feedback read from a value."""
    return read_feedback(EXPERIMENT, json.dumps({"decision_id": "d", "event": "click"} | body).encode(), SECRET)


FAULTY_FEEDBACK = [
    ({"decision_id": None}, Code.INVALID_REQUEST, ["/decision_id"]),
    ({"user_id": "u"}, Code.INVALID_REQUEST, ["/decision_id"]),
    ({"event": "clack"}, Code.UNKNOWN_EVENT, ["/event"]),
    ({"event": 1}, Code.INVALID_REQUEST, ["/event"]),
    ({"value": "1"}, Code.INVALID_REQUEST, ["/value"]),
    ({"value": True}, Code.INVALID_REQUEST, ["/value"]),
    ({"value": None}, Code.INVALID_REQUEST, ["/value"]),
    ({"event_id": ""}, Code.INVALID_REQUEST, ["/event_id"]),
    ({"event_id": "x" * 257}, Code.INVALID_REQUEST, ["/event_id"]),
    ({"event_id": "a\n"}, Code.INVALID_REQUEST, ["/event_id"]),
    ({"event": "time"}, Code.INVALID_REQUEST, ["/value"]),
    ({"event_id": "r", "refund_of": ""}, Code.INVALID_REQUEST, ["/refund_of"]),
    ({"refund_of": "e"}, Code.INVALID_REQUEST, ["/event_id"]),
    ({"event_id": "e", "refund_of": "e"}, Code.INVALID_REQUEST, ["/event_id"]),
    ({"event_id": "r", "refund_of": "e", "value": 0}, Code.INVALID_REQUEST, ["/value"]),
    ({"event_id": "r", "refund_of": "e", "value": -1}, Code.INVALID_REQUEST, ["/value"]),
    ({"event": "time", "event_id": "r", "refund_of": "e"}, Code.INVALID_REQUEST, ["/refund_of"]),
    ({"arm": "zz"}, Code.UNKNOWN_ARM, ["/arm"]),
    ({"unknown": 1}, Code.INVALID_REQUEST, ["/unknown"]),
    ({"decision_id": "~nonsense"}, Code.DECISION_NOT_FOUND, ["/decision_id"]),
    ({"decision_id": "~ä"}, Code.DECISION_NOT_FOUND, ["/decision_id"]),
]


@pytest.mark.parametrize(("body", "code", "places"), FAULTY_FEEDBACK)
def test_faulty_feedback_names_its_place(body: dict[str, Any], code: Code, places: list[str]) -> None:
    """The code and the place; an id of the server's form that it never gave is an unknown decision."""
    assert refused(lambda: feedback(**body)) == (code, places)


def test_feedback_has_a_value_of_one_and_its_kind_as_event_id_unless_told() -> None:
    """Under `sum` and `first` the kind's name stands for a missing event id; under `last` every event counts."""
    plain = feedback()
    assert (plain.credit, plain.event, plain.own_id, plain.arm) == (1_000_000, b"click", False, NO_ARM)
    assert feedback(event="time", value=5).event == b""
    assert feedback(event="time", value=5, event_id="e").event == b"e"
    assert feedback(event_id="click").own_id


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324, -0.0])
def test_any_number_is_a_value(value: float) -> None:
    """It is judged against the range later; here it only has to fit 32 bits."""
    assert abs(feedback(value=value).credit) < 2**31


def activation(decision_id: str) -> Any:
    """An activation read from an id."""
    return read_activation(EXPERIMENT, json.dumps({"decision_id": decision_id}).encode(), SECRET)


def test_every_spelling_of_a_server_id_but_its_own_is_unknown() -> None:
    """Base64 of 21 bytes has no spare bits; padding, spaces, other alphabets and other shards are other ids."""
    name = decision_id(0, Position(1_795_000_000_000, 7), b"12345678")
    assert (
        read_activation(EXPERIMENT, json.dumps({"decision_id": name}).encode(), SECRET).ref.entry == b"1795000000000-7"
    )
    others = [
        name + "=",
        name + " ",
        "~" + name,
        name[:-1],
        name.swapcase(),
        name + "A",
        "~" + name[1:].replace("A", "+", 1),
    ]
    others.append(decision_id(1, Position(1_795_000_000_000, 7), b"12345678"))
    for other in others:
        body = json.dumps({"decision_id": other}).encode()
        assert refused(lambda body=body: read_activation(EXPERIMENT, body, SECRET))[0] == Code.DECISION_NOT_FOUND


def test_a_batch_is_a_list_of_up_to_a_thousand_requests_of_any_kind() -> None:
    """What is in it is looked at later, so that one fault is one item's."""
    assert [bytes(each) for each in read_batch(b'{"requests": [1 , {"a":[ ]}, "x"]}')] == [b"1", b'{"a":[ ]}', b'"x"']
    assert read_batch(b'{"requests":[]}') == ()
    assert len(read_batch(b'{"requests":[' + b",".join([b"1"] * 1000) + b"]}")) == 1000
    for body in (b'{"requests":[' + b",".join([b"1"] * 1001) + b"]}", b'{"requests":{}}', b'{"requests":null}'):
        assert refused(lambda body=body: read_batch(body)) == (Code.INVALID_REQUEST, ["/requests"])
    assert refused(lambda: read_batch(b'{"requests":[],"x":1}')) == (Code.INVALID_REQUEST, ["/x"])
    assert refused(lambda: read_batch(b"[1]"))[0] == Code.INVALID_REQUEST
    for text in (b'{"requests":[1,]}', b'{"requests":NaN}', b'{"requests":[' + b"[" * 10**5 + b"]" * 10**5 + b"]}"):
        assert refused(lambda text=text: read_batch(text))[0] == Code.MALFORMED


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"1, NaN ,2", [b"1", b" NaN ", b"2"]),
        (b'{"a":[-Infinity,{"b":1,"c":"],"}]},[]', [b'{"a":[-Infinity,{"b":1,"c":"],"}]}', b"[]"]),
        (b'{"a" 1},{"a":1,},[1,],01,.5,undefined', [b'{"a" 1}', b'{"a":1,}', b"[1,]", b"01", b".5", b"undefined"]),
        (b'"a\\\\",NaN,"\\"]"', [b'"a\\\\"', b"NaN", b'"\\"]"']),
        (b"NaN," + b"[" * 2000 + b"]" * 2000, [b"NaN", b"[" * 2000 + b"]" * 2000]),
        (b"NaN" + b",1" * 999, [b"NaN"] + [b"1"] * 999),
    ],
    ids=["literal", "within", "syntax", "strings", "deep", "many"],
)
def test_what_is_not_json_in_an_item_is_left_to_the_item(text: bytes, items: list[bytes]) -> None:
    """The others are as they were sent, to the letter; also after an older list of the same name."""
    assert [bytes(each) for each in read_batch(b'{"requests":[%b]}' % text)] == items
    assert [bytes(each) for each in read_batch(b'{"requests":[NaN,[]],"requests" : [%b]}' % text)] == items


@pytest.mark.parametrize("text", [b"", b" \n"])
def test_an_empty_body_is_called_empty(text: bytes) -> None:
    """It is the usual fault of a client that forgot to send one."""
    for read_one in (read_recommendation, read_feedback, read_activation):
        with pytest.raises(Problem, match="the body is empty"):
            read_one(EXPERIMENT, text, SECRET)
    with pytest.raises(Problem, match="the body is empty"):
        read_batch(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"requests":[NaN',
        b'{"requests":[NaN]',
        b'{"requests":[NaN,]}',
        b'{"requests":[,NaN]}',
        b'{"requests":[NaN,,1]}',
        b'{"requests":[NaN}}',
        b'{"requests":[NaN]}}',
        b'{"requests":[NaN],"x":1}',
        b'{"requests":{"a":[NaN]}}',
        b'{"requests":[NaN,"]}',
        b"[[NaN]]",
        b'{"requests":[NaN' + b",1" * 1000 + b"]}",
        b'{"requests":[NaN,' + b"[" * 10**5 + b"]" * 10**5 + b"]}",
    ],
    ids=range(13),
)
def test_a_batch_that_is_not_json_around_its_items_is_malformed(text: bytes) -> None:
    """Where it cannot be told which items there are, or there is more that is wrong, nothing is served."""
    assert refused(lambda: read_batch(text)) == (Code.MALFORMED, [])


def test_a_batch_that_is_not_json_costs_little() -> None:
    """8 MiB of brackets, commas or quotes are given up, or told apart, in less than a second on a busy machine."""
    for junk in (b"[],", b"1,", b'"",', b'"', b"[", b"[1,"):
        text = b'{"requests":[NaN,' + junk * (8 * 2**20 // len(junk)) + b"1]}"
        start = time.process_time()
        with suppress(Problem):
            read_batch(text)
        assert time.process_time() - start < 1


def test_a_number_may_be_written_in_all_its_digits() -> None:
    """As long as a float can be so large: 1e308, and the largest."""
    for number in (10**308, -(10**308), int(sys.float_info.max)):
        asked(context=CONTEXT | {"age": number})
        assert read_json(b"[%d]" % number) == [number]
    assert refused(lambda: asked(context={"age": 17 * 10**307})) == (  # the other faults alone are told
        Code.INVALID_CONTEXT,
        ["/context/new", "/context/country"],
    )


def test_no_error_shows_a_pattern() -> None:
    """What an id or a name is made of is told in words."""
    for body in ({"context": CONTEXT, "user_id": "a\n"}, {"context": CONTEXT, "candidates": ["a\n"]}):
        with pytest.raises(Problem, match="a string without control characters"):
            read(body)


def test_no_error_repeats_what_was_sent_as_a_value() -> None:
    """`got` names a type or a length; a value, which may be personal, is nowhere in the problem."""
    word = "s3cret-value"
    bodies = [
        {"context": CONTEXT | {"age": word}},
        {"context": CONTEXT | {"country": word}},
        {"context": word},
        {"context": CONTEXT, "k": word},
        {"context": CONTEXT, "user_id": word * 100},
        {"context": CONTEXT, "decision_id": "~" + word},
        {"context": CONTEXT, "candidates": [word]},
        {"context": CONTEXT, "defer": word},
    ]
    readers: list[Callable[[], Any]] = [lambda body=body: read(body) for body in bodies]
    sent = (
        {"event": word},
        {"value": word},
        {"arm": word},
        {"event_id": word * 100},
        {"decision_id": "~" + word},
    )
    readers += [lambda body=body: feedback(**body) for body in sent]
    for reader in readers:
        with pytest.raises(Problem) as caught:
            reader()
        assert word not in caught.value.detail + str(caught.value.faults)


@QUIETLY
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No reader ends in anything but a request or a problem."""
    for reader in (read_recommendation, read_feedback, read_activation):
        with suppress(Problem):
            reader(EXPERIMENT, data, SECRET)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FIELDS = "user_id", "k", "candidates", "exclude", "decision_id", "defer", "event", "value", "event_id", "arm"
CONTEXTS = st.fixed_dictionaries({}, optional=dict.fromkeys(CONTEXT, JSON)) | JSON
BODIES = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON) | {"context": CONTEXTS}) | JSON


@QUIETLY
@given(BODIES)
def test_any_json_is_read_or_refused(body: Any) -> None:
    """Known fields with any values: a request or a problem, which is never that it is no JSON."""
    for reader in (read_recommendation, read_feedback, read_activation):
        codes = set()
        try:
            reader(EXPERIMENT, json.dumps(body).encode(), SECRET)
        except Problem as refusal:
            codes.add(refusal.code)
        assert Code.MALFORMED not in codes
