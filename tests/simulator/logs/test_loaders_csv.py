"""Any CSV with named columns: roles by name, the rest is context, and faults are told with row and column."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.logs.cleaning import Rules
from simulator.logs.contexts import LogError
from simulator.logs.loaders import load, stream
from simulator.logs.log import Log
from simulator.ope.evaluate import evaluate
from simulator.ope.targets import fixed

TEXT = """,shown,paid,p,age,plan,member,visitor
0,blue,1.5,0.25,20,free,true,ann
1,red,0,0.75,40,pro,false,bob
2,blue,2.5,0.25,30,free,,ann
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small file."""
    found = tmp_path / "log.csv"
    found.write_text(TEXT)
    return found


ROLES = {"arm": "shown", "reward": "paid", "propensity": "p", "user": "visitor"}


def test_columns_are_found_by_name_and_the_rest_is_context(path: Path) -> None:
    """By hand: ages 20, 40, 30 have mean 30 and deviation sqrt(200 / 3); the nameless first column is no feature."""
    log = load(path, "csv", **ROLES)
    assert log.arms == ("blue", "red")
    assert (log.arm.tolist(), log.reward.tolist(), log.propensity.tolist()) == (
        [0, 1, 0],
        [1.5, 0.0, 2.5],
        [0.25, 0.75, 0.25],
    )
    assert log.columns == ("1", "age", "plan=free", "plan=pro", "member")
    assert log.context is not None
    z = 10 / np.sqrt(200 / 3)
    expected = [[1, -z, 1, 0, 1], [1, z, 0, 1, 0], [1, 0, 1, 0, 0]]
    assert log.context == pytest.approx(np.array(expected))
    assert log.user is not None
    assert log.user.tolist() == ["ann", "bob", "ann"]
    told = "columns of context: age, plan (2 values), member"
    assert log.cleaning == {
        "columns scaled": 1,
        "rows with missing features, filled in": 1,
        told: 3,
        "columns left out: without a name": 1,
    }


def test_the_context_can_be_chosen(path: Path) -> None:
    """Its columns, in the order given."""
    assert load(path, "csv", **ROLES, context=["plan", "age"]).columns == ("1", "plan=free", "plan=pro", "age")
    assert load(path, "csv", **ROLES, context=[]).context is None


def test_one_propensity_for_all_rows_is_uniform_where_it_is_one_in_k(path: Path) -> None:
    """1 / 2 of two arms: all probabilities are known. With a third arm that was never shown they are not."""
    log = load(path, "csv", arm="shown", reward="paid", propensity=0.5, user="visitor")
    assert log.probability is not None
    assert log.probability.tolist() == [[0.5, 0.5]] * 3
    more = load(path, "csv", arm="shown", reward="paid", propensity=0.5, user="visitor", arms=["green", "blue", "red"])
    assert (more.arms, more.probability) == (("green", "blue", "red"), None)


def test_a_missing_column_is_named_with_those_there_are(path: Path) -> None:
    """And with the one that may have been meant."""
    with pytest.raises(LogError, match=r"log.csv: expected a column 'shwon', got .*; did you mean 'shown'"):
        load(path, "csv", arm="shwon", reward="paid", propensity="p")


def test_a_value_of_the_wrong_type_is_told_with_row_and_column(path: Path) -> None:
    """The row is counted from 1 without the names; the line is the file's."""
    path.write_text(TEXT.replace("0.75", "most"))
    with pytest.raises(LogError, match=r"log.csv, column 'p', row 2 \(line 3\): .* invalid value 'most'"):
        load(path, "csv", **ROLES)


def test_a_line_with_too_few_values_is_told(path: Path) -> None:
    """What was expected and what came."""
    path.write_text(TEXT + "3,red\n")
    with pytest.raises(LogError, match=r"log.csv, row 4 \(line 5\): Expected 8 columns, got 2"):
        load(path, "csv", **ROLES)


def test_missing_values_drop_their_rows_and_are_counted(path: Path) -> None:
    """Arm, reward and propensity of one row each; the rest stays."""
    path.write_text(TEXT + "3,,1,0.5,20,free,true,x\n4,red,,0.5,20,free,true,x\n5,red,1,,20,free,true,x\n")
    log = load(path, "csv", **ROLES)
    assert len(log) == 3
    dropped = {what: count for what, count in log.cleaning.items() if what.startswith("rows dropped")}
    assert dropped == {f"rows dropped: {what}": 1 for what in ("no arm", "no reward", "no propensity")}


def test_rewards_out_of_range_are_dropped(path: Path) -> None:
    """As the rules say."""
    log = load(path, "csv", **ROLES, rules=Rules(reward_range=(0, 2)))
    assert log.reward.tolist() == [1.5, 0.0]
    assert log.cleaning["rows dropped: reward outside [0, 2]"] == 1


def test_a_context_column_may_turn_to_text_late(tmp_path: Path) -> None:
    """Numbers in the first 16 MB, then a word: the file is read again with that column as text, and nothing is lost."""
    path = tmp_path / "long.csv"
    lines = [f"a,{i % 2},0.5,{i % 3},{'x' * 90}" for i in range(190_000)]
    path.write_text("\n".join(["arm,r,p,v,pad", *lines, "b,1,0.5,unknown," + "x" * 90]) + "\n")
    log = load(path, "csv", arm="arm", reward="r", propensity="p", context=["v"])
    assert log.columns == ("1", "v=0", "v=1", "v=2", "v=unknown")
    assert (len(log), log.arms) == (190_001, ("a", "b"))


def test_times_are_iso_8601_or_milliseconds(tmp_path: Path) -> None:
    """Both say the same; other texts are refused."""
    path = tmp_path / "log.csv"
    for text in ("2024-05-01T00:00:00Z", "2024-05-01 02:00:00+02:00", "1714521600000"):
        path.write_text(f"a,r,t\nx,1,{text}\n")
        found = load(path, "csv", arm="a", reward="r", propensity=1.0, time="t").time_ms
        assert found is not None
        assert found.tolist() == [1714521600000]
    path.write_text("a,r,t\nx,1,yesterday\n")
    with pytest.raises(
        LogError, match=r"column 't', row 1 \(line 2\): expected ISO 8601 or a number since 1970, got 'yesterday'"
    ):
        load(path, "csv", arm="a", reward="r", propensity=1.0, time="t")


def test_numbered_arms_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2 before 10, numbers before names."""
    path = tmp_path / "log.csv"
    path.write_text("a,r\n10,1\nten,1\n2,1\n")
    assert load(path, "csv", arm="a", reward="r", propensity=0.3).arms == ("2", "10", "ten")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """No line of names; and names without rows."""
    path = tmp_path / "log.csv"
    path.touch()
    with pytest.raises(LogError, match="expected a CSV file with a line of names"):
        load(path, "csv", arm="a", reward="r", propensity=0.3)
    path.write_text("a,r\n")
    with pytest.raises(LogError, match="got none of 0"):
        load(path, "csv", arm="a", reward="r", propensity=0.3)


COLUMNS = {"arm": "arm", "reward": "reward", "propensity": "p"}


def read(folder: Path, text: str | bytes, **options: Any) -> Log:
    """A log of this text."""
    path = folder / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, "csv", **{**COLUMNS, **options})


NAMES = ("NA", "null", "NaN", "nan", "N/A", "#N/A", "None")


def test_only_an_empty_cell_is_no_name(tmp_path: Path) -> None:
    """Arms, users, ids and levels that are called NA and the like are there; as numbers they are missing."""
    lines = [f"{name},1,0.5,{name},u{name},id{k},{k}" for k, name in enumerate(NAMES)]
    text = "arm,reward,p,level,user,id,age\n" + "\n".join([*lines, "a,0,0.5,x,,id8,NA", ",0,0.5,x,u,id9,1"]) + "\n"
    log = read(tmp_path, text, user="user", decision_id="id")
    assert {log.arms[arm] for arm in log.arm} == {*NAMES, "a"}
    assert {f"level={name}" for name in NAMES} <= set(log.columns)
    assert log.user is not None
    assert log.user.tolist() == [*(f"u{name}" for name in NAMES), "id8"]  # nobody's: its decision's own
    assert log.cleaning["rows dropped: no arm"] == 1
    assert "age" in log.columns
    assert log.cleaning["rows with missing features, filled in"] == 1


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_separators_and_decimal_commas_are_found_out(tmp_path: Path, separator: str) -> None:
    """As spreadsheets write them in German and French; with a mark of byte order, quotes and line breaks in them."""
    mark = "." if separator == "," else ","
    rows = [
        f'a{separator}1{separator}0{mark}25{separator}"x\ny{separator}"',
        f"b{separator}0{separator}0{mark}75{separator}z",
    ]
    log = read(tmp_path, "\ufeff" + separator.join(["arm", "reward", "p", "kind"]) + "\n" + "\n".join(rows * 3) + "\n")
    assert log.propensity.tolist() == [0.25, 0.75] * 3
    assert log.columns == ("1", f"kind=x\ny{separator}", "kind=z")
    with pytest.raises(LogError, match="expected a column 'arm'"):
        read(tmp_path, "arm;reward;p\na;1;0.5\n", delimiter=",")


def test_a_quoted_line_break_may_stand_where_blocks_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 200 bytes, each row with two lines."""
    monkeypatch.setattr("simulator.logs.loaders.csv_source.BLOCK", 200)
    log = read(tmp_path, "arm,reward,p,text\n" + '"a\nb",1,0.5,"two\nlines"\nc,0,0.5,one\n' * 50)
    assert (len(log), set(log.arms)) == (100, {"a\nb", "c"})


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Which of them is meant, nobody knows; nor is there a log without names."""
    with pytest.raises(LogError, match=r"log.csv: expected columns with different names, got 'age' twice"):
        read(tmp_path, "arm,reward,p,age,age\na,1,0.5,20,9\n")


def test_text_of_another_encoding_is_told(tmp_path: Path) -> None:
    """Not read as something else."""
    with pytest.raises(LogError, match=r"log\.csv"):
        read(tmp_path, "arm,reward,p\ncaf\xe9,1,0.5\n".encode("latin-1"))


@pytest.mark.parametrize("unit", [1, 1000, 10**6, 10**9])
def test_times_since_1970_are_recognised_by_their_size(tmp_path: Path, unit: int) -> None:
    """Seconds to nanoseconds; a mixture is refused."""
    log = read(tmp_path, f"arm,reward,p,t\na,1,0.5,{1767225600 * unit}\nb,0,0.5,{1767225601 * unit}\n", time="t")
    assert log.time_ms is not None
    assert log.time_ms.tolist() == [1767225600000, 1767225601000]
    other = 10**9 if unit == 1 else 1
    with pytest.raises(LogError, match="as before, got"):
        read(tmp_path, f"arm,reward,p,t\na,1,0.5,{1767225600 * unit}\nb,0,0.5,{1767225601 * other}\n", time="t")


def test_dates_are_read_as_they_are_said_to_be(tmp_path: Path) -> None:
    """Without a time, with a zone, with the day first where that is said; else refused with what to say."""
    text = "arm,reward,p,t\na,1,0.5,2026-01-02\nb,0,0.5,2026-01-02T03:00:00+02:00\n"
    log = read(tmp_path, text, time="t")
    assert log.time_ms is not None
    assert np.diff(log.time_ms).tolist() == [3_600_000]
    german = "arm;reward;p;t\na;1;0,5;3.4.2026 12:00\nb;0;0,5;4.4.2026\n"
    with pytest.raises(LogError, match="--day-first or --month-first"):
        read(tmp_path, german, time="t")
    (april, march) = (read(tmp_path, german, time="t", day_first=first).time_ms for first in (True, False))
    assert april is not None
    assert march is not None
    assert datetime.fromtimestamp(april[0] / 1000, UTC).month == 4
    assert datetime.fromtimestamp(march[0] / 1000, UTC).month == 3


def test_several_rewards_add_up_by_their_weights(tmp_path: Path) -> None:
    """1 click + 10 purchases; without weights 1 each."""
    text = "arm,click,purchase,p\na,1,0,0.5\nb,1,2,0.5\n"
    how = {"reward": ["click", "purchase"], "context": []}
    assert read(tmp_path, text, **how, weights={"purchase": 10.0}).reward.tolist() == [1, 21]
    assert read(tmp_path, text, **how).reward.tolist() == [1, 3]


def test_columns_of_what_came_after_are_refused_unless_named(tmp_path: Path) -> None:
    """A model that knows who clicked predicts nothing."""
    text = "arm,reward,p,age,clicked,netRevenue\n" + "a,1,0.5,20,1,3\nb,0,0.5,30,0,0\n" * 5
    with pytest.raises(LogError, match=r"\['clicked', 'netRevenue'\] may be known only after .*: --context age$"):
        read(tmp_path, text)
    assert read(tmp_path, text, context=["age"]).columns == ("1", "age")
    assert read(tmp_path, text, context=["age", "clicked"]).columns == ("1", "age", "clicked")


def test_a_log_that_begins_with_its_newest_rows_is_put_in_order(tmp_path: Path) -> None:
    """Stably, and counted, in pieces too; where they are of several, which cannot be, it is refused."""
    text = "arm,reward,p,t\n" + "".join(f"a,{k % 2},1,{1767225600 - 100 * k}\n" for k in range(50))
    log = read(tmp_path, text, time="t")
    assert log.time_ms is not None
    assert (np.diff(log.time_ms) > 0).all()
    assert log.reward.tolist() == [k % 2 for k in range(49, -1, -1)]
    assert log.cleaning["rows put in the order of their times"] == 50
    pieces = list(stream(tmp_path / "log.csv", "csv", **COLUMNS, time="t"))
    assert [(piece.reward.tolist(), piece.cleaning) for piece in pieces] == [(log.reward.tolist(), log.cleaning)]
    with pytest.raises(LogError, match=r"order of its times.*: expected times after 2026-.*, got 2025-"):
        list(stream(tmp_path / "log.csv", "csv", **COLUMNS, time="t", rows=10))


def test_a_time_among_the_context_is_told_of(tmp_path: Path) -> None:
    """Nothing says in which order rows are that have no time; a column that sounds like one may be meant."""
    text = "arm,reward,p,ts,mood\na,1,0.5,1767225601,1\nb,0,0.5,1767225600,2\n"
    told = "columns of context that sound like times: ts; --time puts rows in order"
    assert read(tmp_path, text).cleaning[told] == 1
    assert told not in read(tmp_path, text, time="ts").cleaning


EXTREMES = {
    "b,1,1e-300,1": "propensity below 1e-09", "b,1,1e-310,1": "propensity below 1e-09",
    "b,1e300,0.5,1": "reward beyond 1e+30", "b,-1e31,0.5,1": "reward beyond 1e+30", "b,inf,0.5,1": "no reward",
    "b,1,0.5,1e308": "weight beyond 1e+12", "b,1,0.5,0": "weight not above 0", "b,1,0.5,inf": "weight not above 0",
}  # fmt: skip
KEPT = ("b,1,1e-9,1", "b,1e30,0.5,1", "b,1e30,1e-9,1e12", "b,1e-310,0.5,1e-310")


@pytest.mark.parametrize(("row", "fault"), [*EXTREMES.items(), *((row, "") for row in KEPT)])
def test_no_number_of_a_row_overflows(tmp_path: Path, row: str, fault: str) -> None:
    """What no log could show is dropped and counted; with what is left every estimator gets to its end."""
    rows = "".join(f"a,{k % 2},0.5,1\nb,0,0.5,2\n" for k in range(30))
    log = read(tmp_path, f"arm,reward,p,w\n{rows}{row}\n", weight="w")
    dropped = {what: count for what, count in log.cleaning.items() if "dropped" in what}
    assert dropped == ({f"rows dropped: {fault}": 1} if fault else {})
    for arm in "ab":
        assert evaluate(log, fixed(log, arm))


def test_a_log_with_every_row_twice_is_told_of(tmp_path: Path) -> None:
    """Where nothing tells the copies apart; rows that are alike by chance are not."""
    rng = np.random.default_rng(0)
    rows = [f"a{rng.integers(3)},{rng.integers(2)},0.5,{rng.integers(40)}" for _ in range(400)]
    head = "arm,reward,p,age\n"
    copied = "rows that are duplicated, more often than by chance: intervals are too narrow if these are copies"
    assert read(tmp_path, head + "\n".join(rows * 2) + "\n").cleaning[copied] == 800
    assert copied not in read(tmp_path, head + "\n".join(rows) + "\n").cleaning


def test_columns_have_one_role_and_weights_a_column(tmp_path: Path) -> None:
    """Else nobody knows what was meant."""
    text = "arm,click,buy,p\na,1,0,0.5\n"
    for roles, words in {
        "column for each role, got 'click' for two": {"reward": "click", "weight": "click"},
        "each role, got 'buy' for two": {"reward": ["buy", "buy"]},
        "one column or several, got none": {"reward": []},
        r"of \['click'\], got buy=2": {"reward": "click", "weights": {"buy": 2.0}},
        r"of \['click'\], got clik=1; did you mean 'click'": {"reward": ["click"], "weights": {"clik": 1.0}},
        "got click=inf$": {"reward": ["click"], "weights": {"click": np.inf}},
    }.items():
        with pytest.raises(LogError, match=roles):
            read(tmp_path, text, **{"context": [], **words})


def test_rewards_may_be_true_or_false(tmp_path: Path) -> None:
    """As pandas writes them; other rewards beside them stay numbers."""
    text = "arm,click,buy,p\na,True,2.5,0.5\nb,False,0,0.5\n"
    log = read(tmp_path, text, reward=["click", "buy"], context=[], weights={"buy": 2.0})
    assert log.reward.tolist() == [6, 0]


def test_what_a_row_lacks_is_counted(tmp_path: Path) -> None:
    """A weight and a position: taken for 1 and the first; a position that no list has is refused."""
    log = read(tmp_path, "arm,reward,p,w,k\na,1,0.5,2,1\nb,0,0.5,NA,\n", weight="w", position="k")
    assert log.cleaning["rows without a weight, taken for 1"] == 1
    assert log.cleaning["rows without a position, taken for the first"] == 1
    for position in (-1, 3_000_000_000):
        with pytest.raises(
            LogError, match=rf"column 'k', row 1 \(line 2\): expected a position from 0 to 9999, got {position}"
        ):
            read(tmp_path, f"arm,reward,p,k\na,1,0.5,{position}\n", position="k")


def test_features_without_a_square_are_missing(tmp_path: Path) -> None:
    """Nothing can be learned from them; they are counted."""
    log = read(tmp_path, "arm,reward,p,age\na,1,0.5,1e308\nb,0,0.5,-1e200\na,0,0.5,3\nb,0,0.5,5\n")
    assert log.context is not None
    assert log.context[:, 1].tolist() == [0, 0, -1, 1]
    assert log.cleaning["rows with missing features, filled in"] == 2
