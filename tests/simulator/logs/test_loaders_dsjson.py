"""dsjson both ways, held against Vowpal Wabbit itself."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import vowpalwabbit

from simulator.logs.bridge import to_log
from simulator.logs.contexts import Feature, LogError
from simulator.logs.loaders import load, open_table
from simulator.logs.loaders.dsjson import Writer, action_name
from simulator.logs.table import COLUMNS, Eligible, Header, Row, Shown, Table, batch_of, rows_of

VW = "--cb_explore_adf --dsjson --quiet"


def line(**more: Any) -> dict[str, Any]:
    """A line as Vowpal Wabbit's own tools write it."""
    actions = [{"_tag": "A", "act": {"size": 1}}, {"_tag": "B", "act": {"size": 2}}, {"_tag": "C", "act": {"size": 3}}]
    return {
        "_label_cost": -1.5,
        "_label_probability": 0.5,
        "_label_Action": 2,
        "_labelIndex": 1,
        "o": [{"v": 1.5, "EventId": "e1"}],
        "Timestamp": "2024-05-01T00:00:00.1234567Z",
        "Version": "1",
        "EventId": "e1",
        "a": [2, 3, 1],
        "c": {"GUser": {"id": "u", "age": 30, "vip": True}, "context": {"pet": "cat"}, "_multi": actions},
        "p": [0.5, 0.3, 0.2],
        "VWState": {"m": "model-1"},
    } | more


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Lines in a file."""

    def write(*lines: dict[str, Any]) -> Path:
        path = tmp_path / "log.dsjson"
        path.write_text("".join(json.dumps(each) + "\n" for each in lines))
        return path

    return write


Written = Callable[..., Path]


def test_a_line_of_vowpal_wabbits_is_read(written: Written) -> None:
    """Label, propensity, the probabilities in the order of a, time to the millisecond, features by namespace."""
    (batch,) = open_table(written(line()), "dsjson").batches
    (row,) = rows_of(batch)
    assert row.context == {"GUser.id": "u", "GUser.age": 30.0, "GUser.vip": True, "pet": "cat"}
    assert row == Row(
        decision_id="e1",
        time=datetime(2024, 5, 1, 0, 0, 0, 123000, tzinfo=UTC),
        context=row.context,
        shown=[Shown("B", 0.5)],
        eligible=[Eligible("B", 0.5), Eligible("C", 0.3), Eligible("A", 0.2)],
        reward=1.5,
        model="model-1",
    )
    log = load(written(line()), "dsjson")
    assert (log.arms, log.arm.tolist()) == (("A", "B", "C"), [1])
    assert log.probability is not None
    assert log.probability.tolist() == [[0.2, 0.5, 0.3]]


def test_pdrop_becomes_a_weight(written: Written) -> None:
    """1 / (1 - pdrop), and 1 where nothing was dropped."""
    log = load(written(line(pdrop=0.75), line(EventId="e2")), "dsjson")
    assert log.weight is not None
    assert log.weight.tolist() == [4.0, 1.0]


def test_lines_that_teach_nothing_are_counted(written: Written) -> None:
    """Skipped ones, those without a label, and the same event again."""
    unlabelled = {name: value for name, value in line(EventId="e3").items() if not name.startswith("_label")}
    log = load(written(line(), line(EventId="e2", _skipLearn=True), unlabelled, line()), "dsjson")
    assert len(log) == 1
    assert {what: n for what, n in log.cleaning.items() if "scaled" not in what} == {
        "deferred and never activated": 1,
        "lines left out: without a label": 1,
        "rows dropped: decision that came before": 1,
    }


def test_without_p_only_the_propensity_is_known(written: Written) -> None:
    """Of the whole log, even if one line only lacks it; the arms are all known nevertheless."""
    short = line(EventId="e2")
    del short["p"]
    for log in (load(written(line(), short), "dsjson"), load(written(short), "dsjson")):
        assert (log.probability, log.arms) == (None, ("A", "B", "C"))


def test_absent_numbers_are_zeros_as_in_vowpal_wabbit(written: Written) -> None:
    """30 and 0 have mean 15 and deviation 15."""
    bare = line(EventId="e2", c=line()["c"] | {"GUser": {"vip": True}})
    log = load(written(line(), bare), "dsjson")
    assert log.context is not None
    age = log.columns.index("GUser.age")
    assert log.context[:, age].tolist() == [1.0, -1.0]


def test_an_action_goes_by_its_tag_or_id_or_features() -> None:
    """In this order; features in any order are the same action."""
    assert action_name({"_tag": "T", "i": {"id": "I"}}) == "T"
    assert action_name({"i": {"constant": 1, "id": "I"}, "j": [{"hot": "yes"}]}) == "I"
    assert (
        action_name({"j": [{"b": 1, "a": "x"}]})
        == action_name({"j": [{"a": "x"}, {"b": 1}]})
        == '{"j.a":"x","j.b":1.0}'
    )


def test_numbers_name_actions_with_every_digit() -> None:
    """As tags, ids and features; 1 and 1.0 are one feature."""
    big = 2**53
    assert (action_name({"_tag": 7}), action_name({"i": {"id": 1000001}})) == ("7", "1000001")
    assert action_name({"i": {"n": big + 1}}) == f'{{"i.n":{big + 1}}}' != action_name({"i": {"n": big}})
    assert action_name({"i": {"n": 1}}) == action_name({"i": {"n": 1.0}})


def test_probabilities_of_actions_with_one_name_add_up(written: Written) -> None:
    """Equal and empty actions are one arm: a uniform choice among three of which two are equal is not lost."""
    for twin in ({"_tag": "B"}, {}):
        actions = [{"_tag": "A"}, twin, twin]
        each = line(c={"_multi": actions}, a=[2, 1, 3], p=[0.25, 0.5, 0.25], _label_Action=2, _labelIndex=1,
                    _label_probability=0.25)  # fmt: skip
        log = load(written(each), "dsjson")
        assert len(log) == 1
        assert sorted(log.arms) == sorted({"A", "B" if twin else "{}"})
        assert log.propensity.tolist() == [0.5]
        assert log.probability is not None
        assert sorted(log.probability[0].tolist()) == [0.5, 0.5]


def test_actions_may_count_from_0(written: Written) -> None:
    """A 0 in `a` says so, whether or not _label_Action does."""
    there = line()
    one = load(written(there), "dsjson")
    assert one.probability is not None
    for action in (1, 2):
        shifted = line(a=[number - 1 for number in there["a"]], _label_Action=action)
        other = load(written(shifted), "dsjson")
        assert other.probability is not None
        assert (one.arm.tolist(), one.probability.tolist()) == (other.arm.tolist(), other.probability.tolist())


def test_equal_actions_without_p_are_counted_and_left_out(written: Written) -> None:
    """The label has the probability of one of them only."""
    twins = {name: value for name, value in line(EventId="e2").items() if name != "p"}
    twins["c"] = {"_multi": [{"_tag": "A"}, {"_tag": "B"}, {"_tag": "B"}]}
    log = load(written(line(), twins), "dsjson")
    assert len(log) == 1
    assert log.cleaning["lines left out: equal actions without all their probabilities"] == 1


def test_decisions_of_several_slots_are_refused(written: Written) -> None:
    """They have no label of their own, and are not only counted."""
    slots = {
        "c": {"_multi": [{}, {}], "_slots": [{}]},
        "_outcomes": [{"_label_cost": 0, "_a": [0, 1], "_p": [0.5, 0.5]}],
    }
    with pytest.raises(LogError, match="line 2: expected decisions of one slot, got _outcomes"):
        load(written(line(), slots), "dsjson")


def test_what_is_null_is_not_there(written: Written) -> None:
    """As if the line had not its name."""
    log = load(written(line(pdrop=None, _skipLearn=None, VWState=None, Timestamp=None)), "dsjson")
    assert (len(log), log.weight, log.time_ms) == (1, None, None)


def test_a_label_that_contradicts_itself_is_counted_and_left_out(written: Written) -> None:
    """_labelIndex says the first action, `a` the second."""
    good = [line(EventId=f"e{k}") for k in range(3)]
    log = load(written(*good, line(EventId="e3", _labelIndex=0)), "dsjson")
    assert len(log) == 3
    assert log.cleaning["lines left out: _labelIndex, _label_Action and a name different actions"] == 1


def test_broken_lines_are_counted_up_to_one_in_four(tmp_path: Path) -> None:
    """A cut last line, which is in no share; outcomes without a decision, NaN; blank lines are none."""
    good = [msgspec.json.encode(line(EventId=f"e{k}")) for k in range(30)]
    path, dangling = tmp_path / "log.dsjson", b'{"EventId": "zz", "o": [{"v": 1.0, "EventId": "zz"}]}'
    path.write_bytes(b"\xef\xbb\xbf" + b"\n \n".join([*good[:3], dangling, good[3][:40]]))
    log = load(path, "dsjson")
    assert len(log) == 3
    assert log.cleaning["lines left out: not JSON"] == 1
    assert log.cleaning["lines left out: outcomes without their decision"] == 1
    nan = good[3].replace(b"0.5", b"NaN", 1)
    path.write_bytes(b"\n".join([*good[:3], nan]))
    assert load(path, "dsjson").cleaning["lines left out: not JSON"] == 1
    path.write_bytes(b"\n".join([good[0], nan, dangling, *good[5:10]]))
    assert len(load(path, "dsjson")) == 6
    path.write_bytes(b"\n".join([good[0], nan, dangling, *good[5:9]]))
    message = r"line 2: JSON is malformed.*; 2 of 7 lines have such faults, expected a share of 0.25 at most"
    with pytest.raises(LogError, match=message):
        load(path, "dsjson")


def test_the_share_of_broken_lines_may_be_said(tmp_path: Path) -> None:
    """From none at all to all but one."""
    path = tmp_path / "log.dsjson"
    path.write_bytes(b"{\n" * 99 + msgspec.json.encode(line()))
    assert len(load(path, "dsjson", faulty=0.99)) == 1
    path.write_bytes(b"{\n" + b"\n".join(msgspec.json.encode(line(EventId=f"e{k}")) for k in range(99)))
    with pytest.raises(LogError, match="1 of 100 lines have such faults, expected a share of 0 at most"):
        load(path, "dsjson", faulty=0)
    with pytest.raises(LogError, match=r"faulty: expected a share in \[0, 1\], got 2"):
        load(path, "dsjson", faulty=2)


def test_a_file_without_a_label_says_why_nothing_is_left(written: Written) -> None:
    """Not only that there are none of 0."""
    unlabelled = {name: value for name, value in line().items() if not name.startswith("_label")}
    with pytest.raises(LogError, match="got none of 0; lines left out: without a label: 1"):
        load(written(unlabelled), "dsjson")


FAULTS = {
    r"line 2: Object missing required field `c`": {"c": None},
    r"line 2: c: expected _multi with an object for each action": {"c": {"u": {"a": 1}}},
    r"line 2: expected one of 3 actions, got number 4": {"_labelIndex": 3},
    r"line 2: expected a and p to have each of 3 actions once, got \[2, 1\] and 3 probabilities": {"a": [2, 1]},
    r"line 2: int too large to convert to float": {"c": line()["c"] | {"u": {"n": 10**400}}},
    r"line 2: pdrop: expected a share in \[0, 1\), got 1": {"pdrop": 1},
    r"line 2: Invalid isoformat string: 'noon'": {"Timestamp": "noon"},
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_told_with_its_line(written: Written, message: str) -> None:
    """What was expected, what came."""
    bad = {name: value for name, value in line(**FAULTS[message]).items() if value is not None}
    with pytest.raises(LogError, match=r"log.dsjson, " + message):
        load(written(line(), bad), "dsjson")


P = np.array([0.4, 0.3, 0.2, 0.1])
ARMS = ("a", "b", "c", "d d")


def logged(n: int, seed: int, *, uniform: bool = False, eligible: bool = True, weighted: bool = False) -> Table:
    """Random rows of four arms."""
    rng = np.random.default_rng(seed)
    p = np.full(4, 0.25) if uniform else P
    rows = []
    for i in range(n):
        arm = int(rng.choice(4, p=p))
        row = Row(
            decision_id=f"e{i}",
            time=datetime(2024, 1, 1, 0, 0, i % 60, tzinfo=UTC),
            context={"age": float(rng.normal()), "plan": str(rng.choice(["free", "pro"])), "member": bool(i % 2)},
            shown=[Shown(ARMS[arm], float(p[arm]))],
            eligible=[Eligible(*each) for each in zip(ARMS, p.tolist(), strict=True)] if eligible else None,
            reward=float(rng.random() * (arm + 1)),
            weight=float(rng.choice([1, 2, 4])) if weighted else None,
            model="3/1-0",
            skipped=True if i % 10 == 9 else None,
        )
        rows.append(row)
    features = (
        Feature("age", "number"),
        Feature("plan", "category", levels=("free", "pro")),
        Feature("member", "boolean"),
    )
    columns = tuple(each for each in Row.__struct_fields__ if each in COLUMNS or each == "context")
    header = Header(ARMS, columns, features, probability="every" if eligible else "shown")
    return Table(header, iter([batch_of(header, rows)]), Counter())


def write(table: Table, path: Path) -> tuple[Path, list[Row]]:
    """The table as dsjson, and its rows."""
    (batch,) = table.batches
    path.write_bytes(b"".join(line + b"\n" for line in Writer(table.header).lines(batch)))
    return path, list(rows_of(batch))


def reported(path: Path, metrics: Path) -> tuple[float, float, int]:
    """What Vowpal Wabbit says of a file: its average loss for uniform play, the rows' weights, lines it skipped."""
    vw = vowpalwabbit.Workspace(f"{VW} --epsilon 1 -d {path} --extra_metrics {metrics}")
    loss, weights = vw.get_sum_loss(), vw.get_weighted_examples()
    vw.finish()
    return loss, weights, json.loads(metrics.read_text())["number_skipped_events"]


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("eligible", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_vowpal_wabbit_sees_the_same_rewards(tmp_path: Path, uniform: bool, eligible: bool, weighted: bool) -> None:
    """Its average loss under uniform play is -mean(w r / (K p)) of our rows: of a uniform log the average reward.

    To the seventh digit: Vowpal Wabbit keeps costs and probabilities in float32.
    """
    made = logged(300, 5, uniform=uniform, eligible=eligible, weighted=weighted)
    path, rows = write(made, tmp_path / "log.dsjson")
    loss, weights, skipped = reported(path, tmp_path / "metrics.json")
    log = load(path, "dsjson")
    assert skipped == log.cleaning["deferred and never activated"] == 30
    w = np.ones(len(log)) if log.weight is None else log.weight
    ips = (w * log.reward / 4 / log.propensity).sum()
    lost = sum((row.weight or 1.0) for row in rows if row.skipped)
    assert loss == pytest.approx(-ips, rel=1e-6)
    assert weights in (w.sum(), w.sum() + lost)  # whether it counts the weights of lines that it skips is its affair
    if uniform and not weighted:
        assert -loss / len(log) == pytest.approx(np.mean([row.reward for row in rows if not row.skipped]), rel=1e-6)


def test_vowpal_wabbit_parses_every_action_and_label(tmp_path: Path) -> None:
    """A shared example and four actions a line; the one with a cost is the arm shown, with its propensity."""
    path, rows = write(logged(20, 6), tmp_path / "log.dsjson")
    vw = vowpalwabbit.Workspace(VW)
    for text, row in zip(path.read_text().splitlines(), rows, strict=True):
        if row.skipped:
            continue
        examples = vw.parse(text)
        labels = [each.get_label(vowpalwabbit.LabelType.CONTEXTUAL_BANDIT).costs for each in examples]
        assert [len(each) for each in labels] == [1] + [int(arm == row.shown[0].arm) for arm in ARMS]
        (found,) = labels[1 + ARMS.index(row.shown[0].arm)]
        assert (found.cost, found.probability) == pytest.approx((-(row.reward or 0), row.shown[0].propensity), rel=1e-6)
        assert [each.get_tag() for each in examples[1:]] == list(ARMS)
        vw.finish_example(examples)
    vw.finish()


def test_a_line_has_exactly_the_names_of_the_format(tmp_path: Path) -> None:
    """Those of a joined line; _skipLearn and pdrop only where they say something."""
    path, rows = write(logged(10, 7), tmp_path / "log.dsjson")
    first, *_, last = (json.loads(text) for text in path.read_text().splitlines())
    label = ["_label_cost", "_label_probability", "_label_Action", "_labelIndex"]
    rest = ["o", "Timestamp", "Version", "EventId", "a", "c", "p", "VWState"]
    assert list(first) == label + rest
    assert list(last) == [*label, "_skipLearn", *rest]
    assert first["a"][0] == first["_label_Action"] == first["_labelIndex"] + 1
    assert first["p"] == [P[number - 1] for number in first["a"]]
    assert [each["_tag"] for each in first["c"]["_multi"]] == list(ARMS)
    assert first["c"]["context"] == rows[0].context
    assert (first["Version"], first["VWState"]) == ("1", {"m": "3/1-0"})
    assert first["o"] == [{"v": rows[0].reward, "EventId": "e0"}, {"EventId": "e0", "ActionTaken": True}]


def test_what_we_write_we_read(tmp_path: Path) -> None:
    """Rewards, arms, probabilities, times, users' weights and contexts, to the last bit."""
    made = logged(50, 8, weighted=True)
    (batch,) = made.batches
    before = to_log(made.header, batch)
    path, _ = write(Table(made.header, iter([batch]), Counter()), tmp_path / "log")
    after = load(path, "dsjson")
    for name in ("arm", "reward", "propensity", "probability", "time_ms", "decision_id"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist(), name
    assert after.weight == pytest.approx(before.weight, rel=1e-15)  # 1 / (1 - (1 - 1 / w))
    assert after.context is not None
    assert before.context is not None
    for column in ("plan=free", "plan=pro", "member"):
        assert (after.context[:, after.columns.index(column)] == before.context[:, before.columns.index(column)]).all()


def test_a_place_of_a_list_is_a_line_of_its_own(tmp_path: Path) -> None:
    """With its marginal propensity and an id that no other line has."""
    header = Header(("a", "b"), ("decision_id", "shown", "reward", "position"))
    top = Row(decision_id="d", shown=[Shown("a", 0.9)], reward=1.0, position=0)
    lower = Row(decision_id="d", shown=[Shown("a", 0.9), Shown("b", 1.0, 0.9)], reward=0.0, position=1)
    table = Table(header, iter([batch_of(header, [top, lower])]), Counter())
    path, _ = write(table, tmp_path / "log")
    log = load(path, "dsjson")
    assert log.decision_id is not None
    assert log.decision_id.tolist() == ["d", "d/1"]
    assert log.propensity.tolist() == [0.9, 0.9]


def test_what_dsjson_cannot_hold_is_refused() -> None:
    """Features that begin with _ have a meaning of their own there; weights below 1 are no share dropped."""
    columns = ("context", "shown", "eligible", "reward", "weight")
    header = Header(("a",), columns, (Feature("_text", "category", levels=("x",)),))
    for row, message in (
        (Row(context={"_text": "x"}, shown=[Shown("a", 1.0)], reward=1.0), "names do not begin with _"),
        (Row(shown=[Shown("a", 1.0)], reward=1.0, weight=0.5), "expected weights of at least 1"),
        (Row(shown=[Shown("a", 1.0)], reward=1.0, eligible=[Eligible("b", None)]), "expected the arm shown among the"),
    ):
        with pytest.raises(LogError, match=message):
            list(Writer(header).lines(batch_of(header, [row])))
