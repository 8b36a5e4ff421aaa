"""Vowpal Wabbit's text formats, and Criteo's."""

from pathlib import Path

import numpy as np
import pytest
import vowpalwabbit

from simulator.logs.contexts import LogError
from simulator.logs.loaders import load

SIMPLE = """1:2:0.4 | a:3 b
2:-1.5:0.5 'tag|user age:0.5 old |b b

3:1:0.25| a
4 | a
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log goes."""
    return tmp_path / "log.vw"


def test_a_line_is_an_example_of_a_numbered_action(path: Path) -> None:
    """Costs become rewards, features are named by namespace, and what has no cost and probability is counted."""
    path.write_text(SIMPLE)
    log = load(path, "vw", faulty=0.5)
    assert (log.arms, log.arm.tolist()) == (("1", "2"), [0, 1])
    assert (log.reward.tolist(), log.propensity.tolist()) == ([-2.0, 1.5], [0.4, 0.5])
    assert log.columns == ("1", "a", "b", "user.age", "user.old", "b.b")
    assert log.context is not None
    assert log.context[:, [2, 4, 5]].tolist() == [[1, 0, 0], [0, 1, 1]]
    assert log.cleaning["examples left out: without cost and probability"] == 2
    assert (log.probability, log.learning) == (None, False)


ADF = """shared | user=tom hour:9
| article=sports
0:-1:0.25 | article=music
| article=food

shared | user=ann hour:11
0:0.5:0.5 'tagged | article=sports
| article=music

| article=sports
| article=food
"""


def test_a_block_is_an_example_of_described_actions(path: Path) -> None:
    """The action with the label is the one shown, by its tag or features; the shared line is the context."""
    path.write_text(ADF)
    log = load(path, "vw", faulty=0.5)
    assert log.arms == ("article=food", "article=music", "article=sports", "tagged")
    assert [log.arms[arm] for arm in log.arm] == ["article=music", "tagged"]
    assert (log.reward.tolist(), log.propensity.tolist()) == ([1.0, -0.5], [0.25, 0.5])
    assert log.columns == ("1", "user=tom", "hour", "user=ann")
    assert log.context is not None
    assert log.context.tolist() == [[1, 1, -1, 0], [1, 0, 1, 1]]
    assert log.cleaning["examples left out: without cost and probability"] == 1
    assert log.probability is None


def test_vowpal_wabbit_reads_the_same_costs(path: Path) -> None:
    """Its average loss under uniform play, by inverse propensities, is ours with the sign turned (float32)."""
    rng = np.random.default_rng(1)
    p, blocks = [0.5, 0.3, 0.2], []
    for _ in range(200):
        shown = int(rng.choice(3, p=p))
        labels = [f"0:{rng.random():.6f}:{p[a]} " if a == shown else "" for a in range(3)]
        actions = "".join(f"{label}|act id={a}\n" for a, label in enumerate(labels))
        blocks.append(f"shared |user age:{rng.normal():.6f}\n{actions}\n")
    path.write_text("".join(blocks))
    log = load(path, "vw")
    vw = vowpalwabbit.Workspace(f"--cb_explore_adf --epsilon 1 --quiet -d {path}")
    loss, count = vw.get_sum_loss(), vw.get_weighted_examples()
    vw.finish()
    assert count == len(log) == 200
    assert loss == pytest.approx(-(log.reward / 3 / log.propensity).sum(), rel=1e-6)
    assert set(log.arms) == {"act.id=0", "act.id=1", "act.id=2"}


def test_numeric_features_keep_every_digit_in_an_actions_name(path: Path) -> None:
    """Ids of seven or nineteen digits that differ in the last are two arms."""
    block = "shared | u\n0:0:0.5 | id:{}\n| id:{}\n\n"
    ids = (1000001, 1000002), (9223372036854775807, 9223372036854775806), (10**15, -(10**15)), ("0.1", "1e-7")
    path.write_text("".join(block.format(*pair) for pair in ids))
    found = {f"id:{each}" for pair in ids[:3] for each in pair} | {"id:0.1", "id:1e-07"}
    assert set(load(path, "vw").arms) == found


def test_a_tag_is_no_id(path: Path) -> None:
    """Eight lines with one tag are eight decisions; one tag for all actions of a block names none of them."""
    path.write_text("".join(f"{k % 2 + 1}:0:0.5 'exp1| f{k}\n" for k in range(8)))
    log = load(path, "vw")
    assert (len(log), log.decision_id) == (8, None)
    path.write_text("shared | u\n0:-1:0.5 'exp1| a\n'exp1| b\n\n" * 2)
    assert load(path, "vw").arms == ("a", "b")


def test_features_that_are_there_twice_add_up_as_in_vowpal_wabbit(path: Path) -> None:
    """The prediction of a line with `a a:2` is that of one with `a:3`."""
    path.write_text("1:1:0.5 | a a:2\n1:1:0.5 | a:3 b\n")
    log = load(path, "vw")
    assert log.context is not None
    assert log.context[0, log.columns.index("a")] == log.context[1, log.columns.index("a")]
    vw = vowpalwabbit.Workspace("--quiet --noconstant")
    vw.learn("2 | a b")
    assert vw.predict("| a a:2") == pytest.approx(vw.predict("| a:3"))
    vw.finish()


def test_a_text_as_value_is_a_feature_of_its_own_as_in_vowpal_wabbit(path: Path) -> None:
    """`city:rome` teaches nothing of `city:oslo`."""
    path.write_text("1:1:0.5 |u city:rome\n2:0:0.5 |u city:oslo\n")
    assert load(path, "vw").columns == ("1", "u.city:rome", "u.city:oslo")
    vw = vowpalwabbit.Workspace("--quiet --noconstant")
    vw.learn("2 |u city:rome")
    assert vw.predict("|u city:rome") > 0 == vw.predict("|u city:oslo")
    vw.finish()


def test_a_namespaces_weight_multiplies_its_features_as_in_vowpal_wabbit(path: Path) -> None:
    """`|u:2 a b:3` is `|u a:2 b:6`."""
    path.write_text("1:1:0.5 |u:2 a b:3\n2:0:0.5 |u a:2 b:6\n1:0:0.5 |u c\n")
    log = load(path, "vw")
    assert log.context is not None
    assert (log.context[0] == log.context[1]).all()
    vw = vowpalwabbit.Workspace("--quiet --noconstant")
    vw.learn("2 |u a b")
    assert vw.predict("|u:2 a b:3") == pytest.approx(vw.predict("|u a:2 b:6"))
    vw.finish()


def losses(path: Path, options: str) -> tuple[float, float]:
    """Vowpal Wabbit's number of examples and summed loss of uniform play."""
    vw = vowpalwabbit.Workspace(f"--epsilon 1 --quiet -d {path} {options}")
    found = vw.get_weighted_examples(), vw.get_sum_loss()
    vw.finish()
    return found


def test_lines_that_ask_for_a_model_and_blank_ones_are_passed_over(path: Path) -> None:
    """`save_...` is no example; a line of blanks is none either, and ends no block, as for Vowpal Wabbit."""
    path.write_text(f"1:-1:0.5 | a\nsave_{path}.1\n'save_{path}.2|\n \t \n2:1:0.5 | b\n\n1:0:0.5 | c\n")
    assert load(path, "vw").reward.tolist() == [1, -1, 0]
    path.write_text(path.read_text().replace(" \t \n", ""))
    assert losses(path, "--cb_explore 2") == (3, 0)
    path.write_text("shared | u\n0:-1:0.5 | a\n \t \n| b\n\nshared | u\n| a\n0:0:0.5 | b\n \n")
    log = load(path, "vw")
    assert [log.arms[arm] for arm in log.arm] == ["a", "b"]
    assert log.arms == ("a", "b")
    assert losses(path, "--cb_explore_adf")[0] == 2


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_shared_line_begins_a_block(path: Path, blank: str) -> None:
    """It is no action of the block before, where the line between them is not there or not empty."""
    path.write_text(f"shared | u\n| a\n0:-1:0.5 | b\n{blank}shared\t| v\n0:0:0.5 | a\n| b\n")
    log = load(path, "vw")
    assert (log.arms, log.arm.tolist(), log.reward.tolist()) == (("a", "b"), [1, 0], [1.0, 0.0])
    assert log.columns == ("1", "u", "v")


def test_empty_lines_between_numbered_actions_make_no_blocks(path: Path) -> None:
    """`--cb` passes over them: the arms are the numbers, not what the contexts say."""
    for text in ("1:1:0.5 | a\n\n2:1:0.5 | b\n\n", "1:1:0.5 | a\n2:1:0.5 | b\n\n01:0:0.5 | c\n"):
        path.write_text(text)
        assert load(path, "vw").arms == ("1", "2")


def test_blocks_with_equal_actions_are_counted_and_left_out(path: Path) -> None:
    """Only the probability of one of the two is known, not that of their arm."""
    path.write_text("0:-1:0.5 | a\n| a\n| b\n\n0:0:0.5 |\n| b\n")
    log = load(path, "vw")
    assert (log.arms, log.arm.tolist()) == (("b", "{}"), [1])
    assert log.cleaning["examples left out: equal actions, of which the probability of one is known"] == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_mark_of_byte_order_and_either_end_of_a_line_change_nothing(path: Path, end: str) -> None:
    """Neither is part of a label or of a name."""
    path.write_bytes(f"\ufeff{ADF}".replace("\n", end).encode())
    log = load(path, "vw", faulty=0.5)
    assert log.arms == ("article=food", "article=music", "article=sports", "tagged")
    assert losses(path, "--cb_explore_adf")[0] == 3


def test_a_no_break_space_is_no_separator(path: Path) -> None:
    """It is part of the name, as for Vowpal Wabbit; a mark of byte order before the file is not."""
    path.write_bytes("\ufeff1:-1:0.5 |u city=San\u00a0Jose\n2:0:0.5 |u city=Rome\n1:0:0.5 |u city=Rome\n".encode())
    assert load(path, "vw").columns == ("1", "u.city=San\u00a0Jose", "u.city=Rome")


@pytest.mark.parametrize("blank", [" ", "\t"])
@pytest.mark.parametrize("bar", [" |", "|"])
@pytest.mark.parametrize("kind", ["ccb", "slates"])
def test_examples_of_several_slots_are_refused(path: Path, kind: str, bar: str, blank: str) -> None:
    """They are not read as two arms."""
    text = f"{kind} shared | u\n{kind} action | a\n{kind} slot 0:-1:0.6,1:0.4 0,1 | s\n"
    path.write_text(text.replace(f"{kind} ", f"{kind}{blank}").replace(" |", bar))
    with pytest.raises(LogError, match=f"line 1: expected examples of one slot, got those of '{kind}'"):
        load(path, "vw")


def test_text_that_is_not_utf_8_is_told_with_its_line(path: Path) -> None:
    """Two names in another encoding must not become one."""
    path.write_bytes("1:1:0.5 | a\n1:1:0.5 | caf\xe9\n".encode("latin-1"))
    with pytest.raises(LogError, match="line 2: expected UTF-8"):
        load(path, "vw")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1:2:0.4 | a\n1:2:0.4\n", "line 2: expected 'label | features', got no bar"),
        ("1:x:0.4 | a\n", "line 1, label: expected a number, got 'x'"),
        ("1:2:0.4 | a:2b\n", "line 1, feature: expected a number, got '2b'"),
        ("1:2:0.4 | a:1_000\n", "line 1, feature: expected a number, got '1_000'"),
        ("0:2:0.4 | a\n| b\n", "line 1: expected an action's number from 1, got 0"),
        ("1:2:0.4 | a\n2:1:0.4 | b\nshared | u\n", "line 3: expected an action's number from 1, got a shared line"),
        ("1:2:0.4 2:1:0.3 | a\n", "line 1: expected one action with a cost, got 2"),
        ("shared | a\n0:1:0.5 | b\n0:1:0.5 | c\n", "line 3: expected one action with a cost, got a second one"),
    ],
)
def test_a_fault_is_told_with_its_line(path: Path, text: str, message: str) -> None:
    """What was expected, what came."""
    path.write_text(text)
    with pytest.raises(LogError, match=f"log.vw, {message}".replace("|", r"\|")):
        load(path, "vw")


CRITEO = """example 11: aa 1 0.25 1 2 1:300 2:250 3:7
0 exid:11 11:5
0 exid:11 11:6
example 12: bb 0 0.5 1 3 1:100 2:250 3:7 3:8
0 exid:12 11:5
0 exid:12 11:5
0 exid:12 11:9
example 13: cc 0 0.01 2 2 1:100 2:250 3:9
0 exid:13 11:5
1 exid:13 11:5
"""


def test_criteos_banners_are_rows_of_one_slot(path: Path) -> None:
    """A banner without a click stands for ten; the first two display features are numbers, the others categories."""
    path.write_text(CRITEO)
    log = load(path, "criteo")
    assert (log.reward.tolist(), log.propensity.tolist()) == ([1.0, 0.0], [0.25, 0.5])
    assert log.weight is not None
    assert log.weight.tolist() == [1.0, 10.0]
    assert log.decision_id is not None
    assert log.decision_id.tolist() == ["11", "12"]
    assert log.columns == ("1", "1", "2", "3:7", "3:8")
    assert log.context is not None
    assert log.context.tolist() == [[1, 1, 0, 1, 0], [1, -1, 0, 1, 1]]
    assert log.cleaning["rows left out: banners of more than one slot"] == 1


def test_criteos_derived_labels_and_inverse_propensities_are_read(path: Path) -> None:
    """0.001 is the loss of a click, 0.999 that of none."""
    path.write_text(CRITEO.replace(" 1 0.25 ", " 0.001 4 ").replace(" 0 0.5 ", " 0.999 2 "))
    log = load(path, "criteo", inverse=True, kept=1)
    assert (log.reward.tolist(), log.propensity.tolist()) == ([1.0, 0.0], [0.25, 0.5])
    assert log.weight is not None
    assert log.weight.tolist() == [1.0, 1.0]


def test_criteos_text_that_is_not_utf_8_is_told_with_its_line(path: Path) -> None:
    """Two categories in another encoding must not become one."""
    path.write_bytes(CRITEO.replace("3:9", "3:\xe9").encode("latin-1"))
    with pytest.raises(LogError, match="line 8: expected UTF-8"):
        load(path, "criteo")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("exid:12", "exid:13", "line 5: expected a candidate of example 12, got '0 exid:13'"),
        ("aa 1", "aa 2", "line 1: expected 'example ID: .*' with CLICKED 0 or 1, got 'example 11: aa 2 0.25 1 2'"),
        ("0.25", "often", "line 1: expected numbers for propensity, slots and candidates"),
        ("3:7", "3", "line 1: expected FEATURE:VALUE, got '3'"),
        ("1:300", "1:wide", "line 1: expected a number for feature 1, got 'wide'"),
        ("1 exid:13 11:5\n", "", "line 9: expected 1 more candidates of example 13, got the end"),
    ],
)
def test_criteos_faults_are_told_with_their_line(path: Path, old: str, new: str, message: str) -> None:
    """What was expected, what came."""
    path.write_text(CRITEO.replace(old, new))
    with pytest.raises(LogError, match=f"log.vw, {message}"):
        load(path, "criteo")
