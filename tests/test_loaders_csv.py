"""Any CSV with named columns: roles by name, the rest is context, and faults are told with row and column."""

from pathlib import Path

import numpy as np
import pytest

from simulator.clean import Rules
from simulator.contexts import LogError
from simulator.loaders import load

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


ROLES = {"arm": "shown", "reward": "paid", "propensity": "p"}


def test_columns_are_found_by_name_and_the_rest_is_context(path: Path) -> None:
    """By hand: ages 20, 40, 30 have mean 30 and deviation sqrt(200 / 3); the nameless first column is no feature."""
    log = load(path, "csv", **ROLES, user="visitor")
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
    assert log.cleaning == {"columns scaled": 1, "rows with missing features, filled in": 1}


def test_the_context_can_be_chosen(path: Path) -> None:
    """Its columns, in the order given."""
    assert load(path, "csv", **ROLES, context=["plan", "age"]).columns == ("1", "plan=free", "plan=pro", "age")
    assert load(path, "csv", **ROLES, context=[]).context is None


def test_one_propensity_for_all_rows_is_uniform_where_it_is_one_in_k(path: Path) -> None:
    """1 / 2 of two arms: all probabilities are known. With a third arm that was never shown they are not."""
    log = load(path, "csv", arm="shown", reward="paid", propensity=0.5)
    assert log.probability is not None
    assert log.probability.tolist() == [[0.5, 0.5]] * 3
    more = load(path, "csv", arm="shown", reward="paid", propensity=0.5, arms=["green", "blue", "red"])
    assert (more.arms, more.probability) == (("green", "blue", "red"), None)


def test_a_missing_column_is_named_with_those_there_are(path: Path) -> None:
    """And with the one that may have been meant."""
    with pytest.raises(LogError, match=r"log.csv: expected a column 'shwon', got .*; did you mean 'shown'"):
        load(path, "csv", arm="shwon", reward="paid", propensity="p")


def test_a_value_of_the_wrong_type_is_told_with_row_and_column(path: Path) -> None:
    """The row is the file's line."""
    path.write_text(TEXT.replace("0.75", "most"))
    with pytest.raises(LogError, match=r"log.csv, column 'p', row 3: .* invalid value 'most'"):
        load(path, "csv", **ROLES)


def test_a_line_with_too_few_values_is_told(path: Path) -> None:
    """What was expected and what came."""
    path.write_text(TEXT + "3,red\n")
    with pytest.raises(LogError, match="Expected 8 columns, got 2"):
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
    with pytest.raises(LogError, match="column 't': expected times in ISO 8601 or milliseconds"):
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
