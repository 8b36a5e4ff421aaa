"""What a sample of data is taken for; the oracle is what the sample was made of."""

import csv
import io
import json
import random
from typing import Any

import msgspec
import pytest
from asking import QUIETLY, compiled, read, refused
from hypothesis import event, example, given
from samples import as_csv, shop, tables

from bandit.core.inferred.amounts import amount
from bandit.core.inferred.proposal import Proposal, proposed
from bandit.core.inferred.table import CELLS_MAX, read_table
from bandit.core.inferred.words import MISSING
from bandit.errors import Code, Problem


def of(text: str, **roles: str) -> Proposal:
    """What a CSV file suggests."""
    return proposed(read_table(text), roles)


def column(values: list[str], name: str = "x", rows: int = 0) -> dict[str, Any]:
    """The feature that a column of these values becomes, beside an arm and a reward that depend on nothing."""
    values = values * (rows // len(values) or 1)
    r = random.Random(3)
    lines = [(value, r.choice("ab"), r.choice("01")) for value in values]
    found = next(each for each in of(as_csv([name, "arm", "reward"], lines)).columns if each.name == name)
    return found.feature or {"role": found.role, "why": found.why}


def roles(found: Proposal) -> dict[str, str]:
    """Each column's role."""
    return {each.name: each.role for each in found.columns}


SHOP = of(shop())


def test_each_column_of_a_shops_log_has_its_role() -> None:
    """By name and by values; what tells the reward is no feature."""
    assert roles(SHOP) == {
        "impression_id": "decision_id", "ts": "time", "user_id": "user", "arm": "arm", "propensity": "propensity",
        "age": "feature", "hour": "feature", "member": "feature", "device": "feature", "city": "feature",
        "basket": "feature", "zip": "feature", "currency": "dropped", "taste": "feature", "clicked": "reward",
        "order_value": "reward", "confirmed_at": "dropped", "checkout": "dropped",
    }  # fmt: skip
    assert SHOP.rows == 600
    assert all(each.why for each in SHOP.columns)


def test_the_shops_document() -> None:
    """Types, levels by frequency, a cycle, a logarithm, a code that is no amount, and a column for missing values."""
    features = {each["name"]: each for each in SHOP.document["features"]}
    assert features["hour"] == {"type": "number", "name": "hour", "cycle": 24}
    assert features["member"] == {"type": "boolean", "name": "member"}
    assert features["device"] == {"type": "category", "name": "device", "levels": ["phone", "desktop", "tablet"]}
    assert features["city"] == {"type": "hashed", "name": "city", "bits": 6}
    assert features["zip"]["type"] == "hashed"
    assert features["taste"] == {"type": "vector", "name": "taste", "length": 2}
    age, basket = features["age"], features["basket"]
    assert (age["missing"], 45 < age["mean"] < 53, 16 < age["scale"] < 20) == ("indicator", True, True)
    assert (basket["log"], 2.8 < basket["mean"] < 3.4, 1.2 < basket["scale"] < 1.7) == (True, True, True)
    assert sorted(SHOP.document["arms"]) == ["autumn", "spring", "summer"]
    order = SHOP.document["rewards"]["order_value"]
    assert SHOP.document["rewards"]["clicked"] == {}
    assert (order["range"][0], order["over_range"], order["unit"]) == (0.0, "clip", 0.01)
    assert order["range"][1] in (100.0, 200.0, 500.0)


def test_what_is_doubtful_is_said() -> None:
    """Leaks, weights, few rows; by name."""
    told = " ".join(SHOP.warnings)
    assert "'checkout' was dropped: it follows" in told or "'checkout' was dropped: its values tell" in told
    assert "2 rewards are added up with weight 1 each" in told
    assert "30 rows are few" in " ".join(of(shop(30)).warnings)
    nothing = of("age,country\n31,us\n45,cn\n")
    assert nothing.document["arms"] == []
    assert nothing.document["rewards"] == {"click": {}}
    assert [
        "no column was taken for the arm" in w or "no column was taken for a reward" in w for w in nothing.warnings
    ].count(True) == 2


@pytest.mark.parametrize(
    ("values", "name", "feature"),
    [
        (["true", "FALSE"], "x", {"type": "boolean"}),
        (["0", "1"], "x", {"type": "boolean"}),
        (["0", "1", ""], "x", {"type": "boolean", "missing": "indicator"}),
        (["yes", "no"], "x", {"type": "category", "levels": ["yes", "no"]}),
        (["a", "b", ""], "x", {"type": "category", "levels": ["a", "b"], "missing": "indicator"}),
        (["1", "2", "3"], "segment", {"type": "category", "levels": ["1", "2", "3"]}),
        ([str(i) for i in range(7)], "weekday", {"type": "number", "cycle": 7}),
        ([str(i) for i in range(1, 13)], "month", {"type": "number", "cycle": 12}),
        (["0", "0.25", "0.5", "0.75", "1"], "x", {"type": "number", "min": 0.0, "max": 1.0}),
        (["9", "11"], "x", {"type": "number", "mean": 10.0, "scale": 1.0}),
        (["9", "11", "NA"], "x", {"type": "number", "mean": 10.0, "scale": 1.0, "missing": "indicator"}),
        (["1000000009", "1000000011"], "x", {"type": "number", "mean": 1000000010.0, "scale": 1.0}),
        (["9", "11", "n/a"], "x", {"type": "number", "mean": 10.0, "scale": 1.0, "missing": "indicator"}),
        (["$1,009.50", "$1,011.50"], "x", {"type": "number", "mean": 1010.5, "scale": 1.0}),
        (["1.009,50 €", "1.011,50 €"], "x", {"type": "number", "mean": 1010.5, "scale": 1.0}),
        (["9,5 %", "11,5 %"], "x", {"type": "number", "mean": 10.5, "scale": 1.0}),
        (["[1, 0]", "[0, 1]"], "x", {"type": "vector", "length": 2}),
        ([f"t{i}" for i in range(40)], "x", {"type": "hashed", "bits": 6}),
    ],
)  # fmt: skip
def test_a_feature_is_declared_as_its_values_are(values: list[str], name: str, feature: dict[str, Any]) -> None:
    """By hand, each type and parameter."""
    assert column(values, name, 600) == {"name": name} | feature


@pytest.mark.parametrize(
    ("values", "name", "why"),
    [
        (["7"] * 300, "x", "one value in all rows"),
        ([""] * 300, "x", "no values"),
        (["7"] + [""] * 299, "x", "only 1 of 300 rows"),
        ([str(i) for i in range(300)], "x", "counts the rows"),
        ([f"{i:x}" * 4 for i in range(16, 316)], "x", "nearly every row has a value of its own"),
        (["2026-11-30", "2026-12-01"] * 150, "x", "times"),
        (["a", "b"] * 150, 'x"y', "quotation mark"),
        ([f"the quick brown fox number {i // 3}" for i in range(300)], "x", "prose"),
    ],
)
def test_what_is_no_feature_is_left_out_with_the_reason(values: list[str], name: str, why: str) -> None:
    """Constants, ids, times, prose, empty columns, and names that a document does not take."""
    assert why in column(values, name)["why"]


def test_a_name_of_the_past_is_no_reward() -> None:
    """What was bought before is known; what is bought now is not."""
    lines = [(str(i % 90), str(i * 7 % 13), "ab"[i % 2], "01"[i % 5 == 0]) for i in range(300)]
    found = of(as_csv(["last_order_value", "days_since_purchase", "arm", "purchased"], lines))
    assert roles(found) == {
        "last_order_value": "feature", "days_since_purchase": "feature", "arm": "arm", "purchased": "reward",
    }  # fmt: skip


def test_a_rare_level_is_one_of_the_others_and_a_role_that_is_told_stands() -> None:
    """One row in 600 is no level; `dropped` and `feature` are taken as told."""
    assert column(["a", "b"] * 299 + ["c", "a"])["levels"] == ["a", "b"]
    told = of(shop(), checkout="feature", device="dropped", member="arm")
    found = [roles(told)[name] for name in ("checkout", "device", "member", "arm")]
    assert found == ["feature", "dropped", "arm", "dropped"]  # what is named like an arm, beside one that is told


def test_a_column_of_decimal_commas_is_one_of_numbers() -> None:
    """As spreadsheets of half of the world write them."""
    lines = "\n".join(f"{40 + i % 3},5;{'ab'[i % 2]};{int(i % 7 == 0)}" for i in range(300))
    (feature,) = of(f"age;arm;reward\n{lines}\n").document["features"]
    assert (feature["type"], feature["mean"]) == ("number", 41.5)


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1234.5", 1234.5, None), ("1,234.50", 1234.5, None), ("1.234,50 €", None, 1234.5), ("$-5", None, None),
        ("-$5.00", -5.0, None), ("1,234", 1234.0, 1.234), ("1.234.567", None, 1234567.0), ("0.123", 0.123, None),
        ("1 234,5", None, 1234.5), ("1'234.5", 1234.5, None), ("EUR 7", 7.0, 7.0), ("5%", 5.0, 5.0), ("−5", -5.0, -5.0),
        ("12 km", None, None), ("ABC123", None, None), ("192.168.100.200", None, None), ("1,5e3", None, 1500.0),
        ("1e60", None, None), ("1" * 65, None, None), ("$", None, None), ("1,23,456", None, None),
    ],
)  # fmt: skip
def test_a_number_is_read_as_it_is_written(text: str, point: float | None, comma: float | None) -> None:
    """By hand, with either mark before the fraction; codes, addresses and other units are no numbers."""
    assert (amount(text, "."), amount(text, ",")) == (point, comma)


@pytest.mark.parametrize(
    ("yes", "no"), [("yes", "no"), ("ja", "nein"), ("Y", "N"), ("t", "f"), ("oui", ""), ("yes", "n/a")]
)
def test_a_reward_of_yes_and_no_is_one_from_0_to_1(yes: str, no: str) -> None:
    """Found by its name and where it is told; and what tells it is still no feature."""
    lines = [("ab"[i % 2], yes if i % 3 == 0 else no, "x" if i % 3 == 0 else "y", str(i % 7)) for i in range(300)]
    for name, told in (("clicked", {}), ("erfolg", {"erfolg": "reward"})):
        found = of(as_csv(["arm", name, "state", "age"], lines), **told)
        assert found.document["rewards"] == {name: {}}
        assert roles(found) == {"arm": "arm", name: "reward", "state": "dropped", "age": "feature"}


def test_rewards_written_as_money_have_their_range() -> None:
    """In units of a hundredth; some that are no numbers are counted and told."""
    for form, told in (("${}.50", 0), ("{},50 €", 0), ("{},50 €", 3)):
        lines = [("ab"[i % 2], "later" if i < told else form.format(1 + i % 90), str(i % 7)) for i in range(300)]
        found = of(as_csv(["arm", "revenue", "age"], lines))
        assert found.document["rewards"] == {"revenue": {"range": [0.0, 100.0], "over_range": "clip", "unit": 0.01}}
        assert any("3 of its values are no numbers" in each for each in found.warnings) == bool(told)


def test_a_role_that_was_told_is_kept_or_refused() -> None:
    """Never dropped, nor another reward made up in its place: where it cannot be, the row is named, not the text."""
    lines = [("ab"[i % 2], "7" if i < 5 else "soon", "v") for i in range(40)]
    table = read_table(as_csv(["arm", "a/b", "same"], lines))
    for name, role, why in (
        ("a/b", "reward", "35 rows have another text, the first is row 6"),
        ("same", "feature", "one value"),
    ):
        with pytest.raises(Problem, match=why) as caught:
            proposed(table, {name: role}, "/roles")
        (fault,) = caught.value.faults
        assert (caught.value.code, fault.pointer) == (Code.INVALID_REQUEST, f"/roles/{name.replace('/', '~1')}")
        assert "soon" not in caught.value.detail


@pytest.mark.parametrize(("other", "told"), [("unknown", "but not 'unknown'"), ("{} km", "as '0 km'"), ("A{}", "")])
def test_a_column_of_texts_that_are_nearly_numbers_is_told(other: str, told: str) -> None:
    """A word among numbers, or a unit behind them: hashing would teach nothing. Codes are texts."""
    lines = [
        ("ab"[i % 2], other.format(i % 90) if i % 4 == 1 or "{" in other else str(i % 90), "01"[i % 7 == 0])
        for i in range(400)
    ]
    warnings = [each for each in of(as_csv(["arm", "x", "reward"], lines)).warnings if "column 'x'" in each]
    assert (told in warnings[0]) if told else not warnings


def test_too_many_names_are_refused_before_they_are_compared() -> None:
    """A million of them would be compared with each other: by what is said of names that are also twice there."""
    with pytest.raises(Problem, match="at most 512 columns"):
        read_table(",".join(["a", "a", *(f"n{i}" for i in range(600))]) + "\n")


def test_roles_that_cannot_be_are_refused() -> None:
    """No such column, no such role, two arms: with a pointer to the column."""
    text = "a,b,arm\n1,2,x\n"
    for told in ({"c": "arm"}, {"a": "arms"}, {"a": "arm", "b": "arm"}):
        code, pointers = refused(lambda told=told: proposed(read_table(text), told, "/roles"))
        assert (code, pointers) == (Code.INVALID_REQUEST, [f"/roles/{next(iter(told))}"])


@pytest.mark.parametrize(
    "text", ["", "\n\n", "1,2\n3,4\n", "a,a\n1,2\n", ",".join(f"c{i}" for i in range(600)), 'a\n"' + "x" * 200000]
)
def test_what_is_no_table_is_refused(text: str) -> None:
    """No names, numbers for names, a name twice, too many columns, a quotation mark left open."""
    assert refused(lambda: read_table(text, "/csv")) == (Code.INVALID_REQUEST, ["/csv"])


def test_the_work_is_bounded_by_cells() -> None:
    """What comes after is not looked at, and that is said."""
    table = read_table("a,b\n" + "1,2\n" * CELLS_MAX)
    assert (table.rows, table.more) == (CELLS_MAX // 2, True)
    assert "only the first" in proposed(table).warnings[0]


def context_of(feature: dict[str, Any], cell: str) -> Any:
    """A cell as a context has it: null where there is none, else as the feature's type wants it."""
    kind = feature["type"]
    if kind in ("category", "hashed"):
        return cell or None
    if kind == "vector":
        return json.loads(cell) if cell else None
    if cell in MISSING or kind == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(cell.lower())
    return float(cell)


def test_every_row_of_the_sample_is_a_context_that_the_document_takes() -> None:
    """Also those with missing values."""
    experiment = compiled(**SHOP.document)
    for row in csv.DictReader(io.StringIO(shop())):
        context = {each["name"]: context_of(each, row[each["name"]]) for each in SHOP.document["features"]}
        read({"context": context}, experiment)


@QUIETLY
@given(tables())
@example("arm,reward\n\x00,1e300\n")
@example("arm,revenue\n" + "a,-1e-60\nb,-1e-70\n" * 30)
@example("arm,revenue\n" + "a,-1e-9\nb,2e-9\n" * 30)
@example("arm,revenue,x\n" + "a,1e-60,1e50\nb,-1e50,-1e50\n" * 30)
def test_any_sample_makes_a_document_that_compiles(text: str) -> None:
    """Or it is refused as no table: never an error of ours, and never a document that a server refuses."""
    try:
        table = read_table(text)
    except Problem as problem:
        event(f"refused: {problem.code}")
        return
    found = proposed(table)
    compiled(**found.document)
    msgspec.json.encode(found)
    assert [each.name for each in found.columns] == list(table.names)
