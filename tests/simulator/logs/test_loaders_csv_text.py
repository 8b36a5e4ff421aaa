"""CSV as spreadsheets and other programs write it: names, marks, encodings and times."""

from pathlib import Path
from typing import Any

import pytest

from bandit.core.inferred.words import after_the_fact
from simulator.logs.contexts import LogError
from simulator.logs.loaders import load
from simulator.logs.log import Log

COLUMNS = {"arm": "arm", "reward": "reward", "propensity": "p"}


def read(folder: Path, text: str | bytes, **options: Any) -> Log:
    """A log of this text."""
    path = folder / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, "csv", **{**COLUMNS, **options})


@pytest.mark.parametrize("above", ["", "\ufeff", "sep=;\n", "\ufeffsep=;\r\n", "\n\nSEP=;\n"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_row_is_enough_to_tell_how_numbers_are_written(tmp_path: Path, above: str, end: str) -> None:
    """Whatever stands above the names, and whether the last line ends."""
    log = read(tmp_path, f"{above}arm;reward;p{end or chr(10)}a;12,5;0,25{end}")
    assert (log.reward.tolist(), log.propensity.tolist()) == ([12.5], [0.25])


def test_commas_between_quotes_are_decimal_marks_where_they_can_be_nothing_else(tmp_path: Path) -> None:
    """As in the web's spreadsheets; 1,234 may be of thousands: the error says what to say."""
    assert read(tmp_path, 'arm,reward,p\na,1,"0,5"\nb,0,"0,25"\n').propensity.tolist() == [0.5, 0.25]
    thousands = 'arm,reward,p\na,"1,234","0,5"\n'
    with pytest.raises(
        LogError,
        match=r"row 1 \(line 2\): .*'1,234'; expected a number such as 1234.5 .*--decimal \. if .*--decimal , if not",
    ):
        read(tmp_path, thousands)
    assert read(tmp_path, thousands, decimal=",").reward.tolist() == [1.234]


@pytest.mark.parametrize("amount", ["1.234,50", "12,50 €", "50%"])
def test_numbers_as_people_write_them_are_told(tmp_path: Path, amount: str) -> None:
    """With separators of thousands, currencies and shares: refused as a reward, told of in the context."""
    with pytest.raises(
        LogError, match=rf"column 'reward', row 1 \(line 2\): .*'{amount}'; expected a number such as 1234,5"
    ):
        read(tmp_path, f"arm;reward;p\na;{amount};0,5\n")
    log = read(tmp_path, f"arm;reward;p;price;date\na;1;0,5;{amount};3.4.2026\na;1;0,5;{amount};4.4.2026\n")
    assert log.cleaning["columns of context that look like numbers, read as texts: price"] == 1


def test_names_may_have_line_ends_of_every_kind(tmp_path: Path) -> None:
    """Quoted, they belong to the name."""
    log = read(tmp_path, 'arm,reward,p,"long\nname","x\u2028y"\na,1,0.5,3,4\nb,1,0.5,5,6\n')
    assert log.columns == ("1", "long\nname", "x\u2028y")


def test_a_tab_can_be_typed(tmp_path: Path) -> None:
    """By its name or as programmers write it; what cannot separate or mark is refused."""
    for delimiter in ("tab", "\\t", "\t"):
        assert len(read(tmp_path, "arm\treward\tp\na\t1\t0.5\n", delimiter=delimiter)) == 1
    for delimiter in ("", ";;", '"', "é"):
        with pytest.raises(LogError, match="delimiter: expected one character"):
            read(tmp_path, "arm;reward;p\na;1;0,5\n", delimiter=delimiter)
    with pytest.raises(LogError, match=r"decimal: expected \. or ,"):
        read(tmp_path, "arm;reward;p\na;1;0,5\n", decimal=";")


def test_another_encoding_is_told_with_its_place(tmp_path: Path) -> None:
    """Among the names, in a column with a role, in the context, and where every byte is another."""
    text = "arm;reward;p;größe\na;1;0,5;3\n"
    with pytest.raises(LogError, match="line 1: expected text in UTF-8, got another encoding"):
        read(tmp_path, text.encode("latin-1"))
    with pytest.raises(LogError, match="expected text in UTF-8, got UTF-16"):
        read(tmp_path, text.encode("utf-16"))
    for row in ("ä;1;0,5;x", "a;1;0,5;ä"):
        column = "arm" if row[0] == "ä" else "size"
        with pytest.raises(LogError, match=rf"column '{column}', row 2 \(line 3\): .*expected text in UTF-8"):
            read(tmp_path, f"arm;reward;p;size\nb;1;0,5;3\n{row}\n".encode("latin-1"))


def test_a_quote_left_open_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It swallows rows until there are too many bytes for one."""
    monkeypatch.setattr("simulator.logs.loaders.csv_source.BLOCK", 200)
    with pytest.raises(LogError, match="left open"):
        read(tmp_path, 'arm,reward,p\na,1,0.5\n"b,1,0.5\n' + "c,1,0.5\n" * 90 + '"\n')
    with pytest.raises(LogError, match="field larger than field limit"):
        read(tmp_path, '"arm,reward,p\n' + "c" * 200_000)


TIMES = {
    "2026-04-03 12:30:15": 0, "2026-04-03T12:30:15Z": 0, "2026-04-03 12:30:15 UTC": 0, "2026/4/3 12:30:15": 0,
    "2026-04-03T14:30:15+02:00": 0, "2026-04-03 14:30:15 +0200": 0, "2026-04-03 12:30:15.0004": 0,
    "2026-04-03T12:30:15.123456789Z": 123, "20260403T123015": 0, "3.4.2026 12:30:15": 0, "03.04.26 12:30:15": 0,
    "3/4/2026 12:30:15 PM": 0, "03-04-2026, 12:30:15,5": 500, "1775219415": 0, "1775219415,5": 500,
    "1775219415000": 0, "1775219415000123": 0, "1775219415000123456": 0, "1.775219415e9": 0,
}  # fmt: skip


@pytest.mark.parametrize(("text", "more"), TIMES.items())
def test_a_time_is_the_same_however_it_is_written(tmp_path: Path, text: str, more: int) -> None:
    """The third of April 2026, half past twelve and 15 seconds."""
    found = read(tmp_path, f'arm;reward;p;t\na;1;0,5;"{text}"\n', time="t", day_first=True).time_ms
    assert found is not None
    assert found.tolist() == [1775219415000 + more]


@pytest.mark.parametrize(
    "text", ["13.13.2026", "1.2.3", "0", "-5", "45000.5", "1e25", "inf", "12:30", "2026-01", "3.4.2026 25:00", "26-1-2"]
)
def test_what_is_no_time_is_refused_with_its_row(tmp_path: Path, text: str) -> None:
    """Spreadsheets' serial numbers are none either."""
    with pytest.raises(LogError, match=r"column 't', row 2 \(line 3\): expected"):
        read(tmp_path, f"arm;reward;p;t\na;1;0,5;\na;1;0,5;{text}\n", time="t", day_first=True)


def test_midnight_and_noon_are_twelve(tmp_path: Path) -> None:
    """12 AM is hour 0, as Americans write it."""
    text = "arm,reward,p,t\n" + "".join(
        f"a,1,0.5,4/3/2026 {hour}\n" for hour in ("12:05 AM", "1 am", "12 p.m.", "11PM")
    )
    found = read(tmp_path, text, time="t", day_first=False).time_ms
    assert found is not None
    assert ((found - 1775174400000) // 60_000).tolist() == [5, 60, 720, 1380]


def test_forms_of_times_are_not_mixed_and_zones_are_counted(tmp_path: Path) -> None:
    """A number among dates is refused; a time without a zone beside others with one is counted."""
    for one, other in [("2026-01-01", "1767225600"), ("1767225600", "2026-01-01"), ("1767225600", "1767225600000")]:
        with pytest.raises(LogError, match=r"row 2 \(line 3\): expected times in .*, as before, got"):
            read(tmp_path, f"arm,reward,p,t\na,1,0.5,{one}\na,1,0.5,{other}\n", time="t")
    log = read(tmp_path, "arm,reward,p,t\na,1,0.5,2026-01-01\na,1,0.5,2026-01-01T03:00+01:00\n", time="t")
    assert log.cleaning["times without a zone, beside others that have one: taken for UTC"] == 1


def test_words_that_tell_of_what_came_after_are_known_in_every_case() -> None:
    """As whole words of a name, in one or many, joined in any way; not inside others."""
    after = [
        "click",
        "Clicks",
        "isClicked",
        "HTTPClicks",
        "ORDER_VALUE",
        "net-revenue",
        "purchases_7d",
        "Umsatz",
        "acheté",
    ]
    assert after_the_fact(after) == after
    assert after_the_fact(["border", "reordering", "clickety", "recorder", "costume", "age", "2"]) == []
