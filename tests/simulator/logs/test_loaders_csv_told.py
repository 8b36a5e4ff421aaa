"""What a CSV does not say is asked or told: marks of thousands, who it was, rounded propensities, columns left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit.core.inferred.words import like_users
from simulator.logs.contexts import LogError
from simulator.logs.loaders import load
from simulator.logs.log import Log

COLUMNS = {"arm": "arm", "reward": "reward", "propensity": 0.5}


def read(folder: Path, text: str, **options: Any) -> Log:
    """A log of this text."""
    path = folder / "log.csv"
    path.write_text(text)
    return load(path, "csv", **{**COLUMNS, **options})


def amounts(separator: str, *texts: str, column: str = "reward") -> str:
    """A log in which these are rewards, or values of the context."""
    other = f"{column}{separator}reward" if column != "reward" else "reward"
    more = f"{separator}1" if column != "reward" else ""
    rows = [f"{'ab'[k % 2]}{separator}{text}{more}" for k, text in enumerate(texts * 5)]
    return "\n".join([f"arm{separator}{other}", *rows]) + "\n"


GERMAN, FRENCH, QUOTED = ("1.234", "999", "0"), ("12,345", "1,050", "0"), ('"1,234"', "999", "0")


@pytest.mark.parametrize("column", ["reward", "price"])
@pytest.mark.parametrize(
    ("separator", "texts", "point", "comma"),
    [
        (";", GERMAN, [1.234, 999, 0], [1234, 999, 0]),
        (",", GERMAN, [1.234, 999, 0], [1234, 999, 0]),
        (";", FRENCH, [12345, 1050, 0], [12.345, 1.05, 0]),
        (";", ("1.000", "2.000", "7"), [1, 2, 7], [1000, 2000, 7]),
        (";", ("-1.234", "+999", " 3"), [-1.234, 999, 3], [-1234, 999, 3]),
    ],
)
def test_three_digits_after_every_mark_are_asked_about(
    tmp_path: Path, separator: str, texts: tuple[str, ...], point: list[float], comma: list[float], column: str
) -> None:
    """1.234 is a thousand or one and a fraction; which of them says the decimal mark. By hand."""
    text = amounts(separator, *texts, column=column)
    with pytest.raises(
        LogError, match=rf"log.csv, column '{column}': cannot tell whether .*--decimal . .*--decimal . "
    ):
        read(tmp_path, text)
    for decimal, expected in ((".", point), (",", comma)):
        log = read(tmp_path, text, decimal=decimal)
        assert log.context is not None or column == "reward"
        values = log.reward if log.context is None else log.context[:, 1]
        assert log.columns in (("1",), (), ("1", column))
        x = np.array(expected * 5, float)
        assert values == pytest.approx(x if column == "reward" else (x - x.mean()) / x.std())


@pytest.mark.parametrize(
    "texts", [("0.123", "1.234"), ("1.234", "1.5"), ("1.2345",), ("1.234", "1234.567"), (".125",), ("7",)]
)
def test_what_can_be_told_is_not_asked_about(tmp_path: Path, texts: tuple[str, ...]) -> None:
    """A leading 0, or another number of digits on either side, and the mark is decimal; so is a propensity's always."""
    assert read(tmp_path, amounts(",", *texts)).reward.tolist() == [float(each) for each in texts * 5]
    log = read(tmp_path, "arm,reward,p\na,1,1.000\na,0,1.000\n", propensity="p")
    assert log.propensity.tolist() == [1, 1]


def test_a_mark_that_is_there_late_is_asked_about_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last of many blocks; and one number that tells, in any of them, tells of all."""
    monkeypatch.setattr("simulator.logs.loaders.csv_source.BLOCK", 100)
    with pytest.raises(LogError, match=r"'reward': cannot tell whether 1\.234"):
        read(tmp_path, amounts(";", *["7"] * 20, "1.234"))
    assert read(tmp_path, amounts(";", "7.5", *["1.234"] * 20)).reward.max() == 7.5


def test_marks_of_thousands_stand_before_groups_of_three(tmp_path: Path) -> None:
    """Of other texts the error says where they are; a context of them is text, as before."""
    text = 'arm,reward\na,"1,234.5"\nb,"1,234,567"\nb,2e3\nb,.5\n'
    assert read(tmp_path, text, decimal=".").reward.tolist() == [1234.5, 1234567, 2000, 0.5]
    with pytest.raises(LogError, match=r"row 1 \(line 2\): .*'1,234.5'.*say --decimal \. if , is a mark of thousands"):
        read(tmp_path, text)
    for wrong in ("1,23", "1,2345", "1,234,5", ",123"):
        with pytest.raises(LogError, match=rf"column 'reward', row 2 \(line 3\): expected a number, got '{wrong}'"):
            read(tmp_path, f'arm,reward\na,"1,234"\nb,"{wrong}"\n', decimal=".")
    version = 'arm,reward,v\na,1,"1,234"\nb,0,"1,2"\nb,0,"1,234"\n'
    assert read(tmp_path, version, decimal=".").columns == ("1", "v=1,2", "v=1,234")


WHO = [
    "user", "User ID", "userId", "user_hash", "visitor_id", "VISITOR", "visitorid", "session", "session_id",
    "sessionToken", "customer", "customer_no", "client", "client_id", "member_id", "device_id", "cookie", "uid",
    "user_name", "e", "email", "Kunde", "kunden_nr", "Kundennummer", "nutzer", "nutzer_id", "Besucher",
    "sitzungs_id", "konto_nr",
    "utilisateur", "id_client", "visiteur", "identifiant_utilisateur",
]  # fmt: skip
WHAT = [
    "user_age",
    "user_agent",
    "device",
    "member",
    "customer_type",
    "session_length",
    "users",
    "id",
    "userland",
    "account",
]


def test_names_of_who_it_was_are_known_in_every_case() -> None:
    """In English, German and French, alone or as an id; not what is known of them."""
    assert like_users(WHO) == [name for name in WHO if name != "e"]
    assert like_users(WHAT) == []


@pytest.mark.parametrize("name", ["user", "visitor_id", "Kunde"])
def test_a_column_of_who_it_was_is_refused_unless_it_has_a_role(tmp_path: Path, name: str) -> None:
    """It was a category of the context, and the rows of one user counted as independent."""
    text = f"arm,reward,{name},age,clicked\n" + "a,1,u1,20,1\nb,0,u2,30,0\n" * 5
    with pytest.raises(
        LogError, match=rf"\['{name}'\] sound like who it was.*: --user {name} .*: --context age --context size$"
    ):
        read(tmp_path, text.replace(",clicked", ",size"))
    with pytest.raises(LogError, match=rf"\['clicked'\] may be known .*\['{name}'\] sound like .*: --context age$"):
        read(tmp_path, text)
    text = text.replace(",clicked", ",size")
    taken = read(tmp_path, text, user=name)
    assert taken.user is not None
    assert (set(taken.user), taken.columns) == ({"u1", "u2"}, ("1", "age", "size"))
    with pytest.raises(LogError, match=rf"\['{name}'\] sound like who it was; name the columns of the context: --cont"):
        read(tmp_path, text, user="age")
    assert read(tmp_path, text, context=[name]).columns == ("1", f"{name}=u1", f"{name}=u2")


@pytest.mark.parametrize("last", ["Total,120,,", "Total,,0.5,", "Total,120,2,", "Total,120,-1,7"])
def test_arms_are_those_of_rows_that_are_kept(tmp_path: Path, last: str) -> None:
    """A line of sums is no arm: it made 1 / 2 of two arms another propensity than uniform, and all was refused."""
    log = read(tmp_path, "arm,reward,p,age\n" + "a,1,0.5,20\nb,0,0.5,30\n" * 5 + f"{last}\n", propensity="p")
    assert (log.arms, len(log)) == (("a", "b"), 10)
    assert log.probability is not None
    assert log.cleaning["arms left out, shown only in rows that are dropped: 'Total'"] == 1


@pytest.mark.parametrize(("p", "K"), [("0.33", 3), ("0.333", 3), ("0.17", 6), ("0.16", 6), ("0.1429", 7)])
def test_a_propensity_that_may_be_rounded_is_told_of(tmp_path: Path, p: str, K: int) -> None:
    """The same in all rows, and 1 / K to so many digits, rounded or cut; with what to say."""
    text = "arm,reward,p\n" + "".join(f"{'abcdefg'[k % K]},1,{p}\n" for k in range(21))
    digits = len(p) - 2
    what = f"rows with a propensity of {p}, perhaps 1 / {K} in {digits} digits: if so, give that with "
    what += f"--propensity {1 / K!r}"
    assert read(tmp_path, text, propensity="p").cleaning[what] == 21
    for other in (f"{1 / K!r}", "0.4"):
        told = read(tmp_path, text.replace(f",{p}\n", f",{other}\n"), propensity="p").cleaning
        assert not [each for each in told if "propensity" in each]


def test_columns_of_times_are_told_by_their_values_too(tmp_path: Path) -> None:
    """Whatever they are called, also where all their values are different; versions are no dates."""
    for form in ("03/{:02}/2026 12:00 AM", "{:02}.03.2026", "2026-03-{:02}"):
        rows = "".join(f"a,1,{form.format(k % 28 + 1)},{k % 3}.1.2\n" for k in range(100))
        told = "columns of context that sound like times: x; --time puts rows in order"
        assert read(tmp_path, f"arm,reward,x,version\n{rows}").cleaning[told] == 1
    rows = "".join(f"a,1,{k}\n" for k in range(100))
    assert "sound like times: when" in str(read(tmp_path, f"arm,reward,when\n{rows}").cleaning)


def test_columns_without_a_name_are_told_of(tmp_path: Path) -> None:
    """The index that pandas writes, or a separator at each line's end."""
    assert read(tmp_path, ",arm,reward\n0,a,1\n1,b,0\n").cleaning["columns left out: without a name"] == 1
    assert read(tmp_path, "arm,reward,,\na,1,,\n").cleaning["columns left out: without a name"] == 2


def test_the_order_of_day_and_month_that_was_said_is_in_the_error(tmp_path: Path) -> None:
    """With the row and the line."""
    text = "arm,reward,t\na,1,05/01/2026\na,1,13/01/2026\n"
    with pytest.raises(
        LogError, match=r"row 2 \(line 3\): expected a date with the month first.*--month-first.*'13/01/2"
    ):
        read(tmp_path, text, time="t", day_first=False)
    with pytest.raises(LogError, match=r"expected a date with the day first.*--day-first.*'01/13/2026'"):
        read(tmp_path, text.replace("13/01", "01/13"), time="t", day_first=True)
