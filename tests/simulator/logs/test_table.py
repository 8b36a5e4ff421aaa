"""The documented table: a log that goes to disk comes back the same, whole or in pieces."""

import dataclasses
import gzip
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bandit.core.features import Boolean, Category, Number, compile_encoder
from bandit.core.sums import ONE
from simulator.logs.bridge import from_log, to_log
from simulator.logs.contexts import DISTINCT, LEVELS, Feature, LogError, Survey, column_names, matrix, struct_array
from simulator.logs.loaders import FORMATS, load, stream
from simulator.logs.log import Log
from simulator.logs.storage import read_table, whole, write_jsonl, write_parquet
from simulator.logs.table import (
    ALWAYS,
    COLUMNS,
    ROWS,
    Eligible,
    Header,
    Row,
    Shown,
    Table,
    batch_of,
    rows_of,
)
from simulator.ope.targets import uniform

DOC = (Path(__file__).parents[3] / "docs" / "logged-data.md").read_text()
WRITE = {"parquet": write_parquet, "jsonl": write_jsonl}

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=6)


def maybe(draw: Any, values: Any) -> Any:
    """The values, or nothing."""
    return draw(values) if draw(st.booleans()) else None


@st.composite
def logs(draw: Any) -> Log:
    """Any log that keeps the promises of `Log`."""
    n, K, d = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    arms = tuple(draw(st.lists(names, min_size=K, max_size=K, unique=True)))
    columns = ("1", *draw(st.lists(names.filter(lambda name: name != "1"), min_size=d, max_size=d, unique=True)))

    def array(kind: type, values: Any) -> Any:
        return hnp.arrays(kind, n, elements=values)

    ids = st.lists(names, min_size=n, max_size=n).map(np.array)
    context = hnp.arrays(np.float64, (n, d), elements=st.floats(-1e100, 1e100)).map(
        lambda x: np.column_stack([np.ones(n), x])
    )
    raw = hnp.arrays(np.float64, (n, K), elements=st.floats(0, 1))
    with_context = draw(st.booleans())
    return Log(
        arms=arms,
        arm=draw(array(np.int64, st.integers(0, K - 1))),
        reward=draw(array(np.float64, finite)),
        propensity=draw(array(np.float64, st.floats(0, 1, exclude_min=True))),
        probability=maybe(draw, raw),
        context=draw(context) if with_context else None,
        columns=columns if with_context else (),
        position=maybe(draw, array(np.int64, st.integers(0, 9))),
        time_ms=maybe(draw, array(np.int64, st.integers(0, 4_000_000_000_000))),
        weight=maybe(draw, array(np.float64, st.floats(0.5, 1e6))),
        decision_id=maybe(draw, ids),
        user=maybe(draw, ids),
        part=maybe(draw, array(np.int64, st.integers(0, 9))),
        learning=draw(st.booleans()),
        cleaning=draw(st.dictionaries(names, st.integers(1, 9), max_size=2)),
    )


def assert_same(one: Log, other: Log) -> None:
    """Every field is equal, to the last bit."""
    for field in dataclasses.fields(Log):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert isinstance(b, np.ndarray), field.name
            assert (a.shape, a.dtype.kind, a.tolist()) == (b.shape, b.dtype.kind, b.tolist()), field.name
        else:
            assert a == b, field.name


@pytest.mark.parametrize("form", WRITE)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs())
def test_a_log_comes_back_from_disk_the_same(tmp_path: Path, form: str, log: Log) -> None:
    """Log -> table -> file -> table -> log changes nothing, in both forms."""
    path = tmp_path / f"log.{form}"
    assert WRITE[form](from_log(log), path) == len(log)
    table = read_table(path)
    assert_same(to_log(table.header, whole(table.batches, table.header), table.cleaning), log)


@pytest.mark.parametrize("form", WRITE)
def test_an_arm_of_probability_0_that_could_be_shown_stays_eligible(tmp_path: Path, form: str) -> None:
    """A log without exploration is no log of fewer arms: what could be shown is known apart from what was likely."""
    P, known = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([[True, True, False], [True, True, True]])
    log = Log(("x", "y", "z"), np.array([0, 1]), np.zeros(2), np.ones(2), P, eligible=known)
    path = tmp_path / f"log.{form}"
    WRITE[form](from_log(log), path)
    back = load(path, "table")
    assert_same(back, log)
    assert uniform(back).tolist() == [[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]


def rows() -> list[Row]:
    """Three rows with everything that a table can hold."""
    both = [Eligible("a", 0.25), Eligible("b", 0.75)]
    first = Row(
        decision_id="d1",
        time=datetime(2024, 5, 1, tzinfo=UTC),
        context={"age": 30.0, "member": True, "country": "us"},
        shown=[Shown("b", 0.75)],
        eligible=both,
        reward=1.5,
        slice=2,
        user="u1",
        weight=2.0,
        model="1/5-0",
    )
    lower = Row(decision_id="d2", shown=[Shown("b", 0.75), Shown("a", 1.0, 0.25)], reward=0.0, position=1)
    never = Row(decision_id="d3", shown=[Shown("a", 0.25)], eligible=both, reward=0.0, skipped=True)
    return [first, lower, never]


FEATURES = (
    Feature("age", "number", 20.0, 5.0),
    Feature("member", "boolean"),
    Feature("country", "category", levels=("cn", "us"), other=True),
)


def table(*found: Row, **header: Any) -> Table:
    """A table of these rows with all columns."""
    columns = tuple(name for name in Row.__struct_fields__ if name in COLUMNS or name == "context")
    made = Header(**({"arms": ("a", "b"), "columns": columns, "features": FEATURES} | header))
    return Table(made, iter([batch_of(made, found or rows())]), Counter())


def log_of(made: Table) -> Log:
    """The table's log."""
    return to_log(made.header, whole(made.batches, made.header), made.cleaning)


@pytest.mark.parametrize("form", WRITE)
def test_rows_come_back_with_all_that_a_log_does_not_keep(tmp_path: Path, form: str) -> None:
    """Lists, marginals, models and rows never shown survive a file; contexts gain the features that were missing."""
    path = tmp_path / "log"
    WRITE[form](table(), path)
    back = list(rows_of(whole(read_table(path).batches, table().header)))
    empty = {"age": None, "member": None, "country": None}
    expected = [msgspec.structs.replace(row, context=row.context or empty) for row in rows()]
    assert msgspec.to_builtins(back) == msgspec.to_builtins(expected)


def test_a_log_is_made_of_a_rows_own_arm_and_marginal() -> None:
    """Of a list the last arm counts, with the probability of its position; rows never shown are left out, counted."""
    log = log_of(table())
    assert [log.arms[arm] for arm in log.arm] == ["b", "a"]
    assert log.propensity.tolist() == [0.75, 0.25]
    assert log.cleaning["deferred and never activated"] == 1
    assert log.position is not None
    assert log.position.tolist() == [0, 1]


def test_a_row_without_a_user_is_a_user_of_its_own() -> None:
    """Rows of unknown people must not be clustered as one person."""
    log = log_of(table())
    assert log.user is not None
    assert log.user.tolist() == ["u1", "d2"]


def test_a_row_without_a_time_has_that_of_the_row_beside() -> None:
    """So the order in time is that of the file, in each piece too; it is counted."""
    log = log_of(table())
    assert log.time_ms is not None
    assert log.time_ms.tolist() == [1714521600000] * 2
    assert log.cleaning["rows without a time, given that of the row beside"] == 1
    made = table()
    rows = whole(made.batches, made.header)
    first = to_log(made.header, rows.take(pa.array([1, 0]))).time_ms
    assert first is not None
    assert first.tolist() == [1714521600000] * 2


def test_contexts_become_numbers_and_what_is_missing_is_the_mean() -> None:
    """By hand: (30 - 20) / 5; a missing number and boolean are 0 and a missing category is another value."""
    log = log_of(table())
    assert log.columns == ("1", "age", "member", "country=cn", "country=us", "country=*")
    assert log.context is not None
    assert log.context.tolist() == [[1, 2, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1]]
    assert log.cleaning["rows with missing features, filled in"] == 1


def test_probabilities_are_known_for_all_rows_or_for_none() -> None:
    """A table that says `every` has a matrix, 0 where an arm could not be shown."""
    one = Row(shown=[Shown("b", 1.0)], eligible=[Eligible("b", 1.0)], reward=0.0)
    log = log_of(table(rows()[0], one, probability="every"))
    assert log.probability is not None
    assert log.probability.tolist() == [[0.25, 0.75], [0.0, 1.0]]
    assert log_of(table()).probability is None


def test_a_uniform_table_needs_no_column_for_its_probabilities() -> None:
    """1 / K for every arm in every row."""
    header = Header(("a", "b", "c", "d"), probability="uniform")
    log = to_log(header, batch_of(header, [Row(shown=[Shown("a", 0.25)], reward=1.0)] * 3))
    assert log.probability is not None
    assert log.probability.tolist() == [[0.25] * 4] * 3


def test_an_unknown_arm_is_named_with_its_row() -> None:
    """What was expected, what came, and where."""
    with pytest.raises(LogError, match=r"row 2: expected one of 2 arms, got 'z'"):
        log_of(table(rows()[0], Row(shown=[Shown("z", 1.0)], reward=0.0)))


@pytest.mark.parametrize("form", WRITE)
def test_a_stream_in_pieces_is_the_whole_log(tmp_path: Path, form: str) -> None:
    """Pieces of 7 rows, joined, are the log read at once; all have the same arms and columns."""
    rng = np.random.default_rng(1)
    n, p = 50, np.array([0.2, 0.3, 0.5])
    arm = rng.choice(3, n, p=p)
    context = np.column_stack([np.ones(n), rng.normal(size=n)])
    log = Log(("x", "y", "z"), arm, rng.random(n), p[arm], np.tile(p, (n, 1)), context, ("1", "age"))
    path = tmp_path / "log"
    WRITE[form](from_log(log), path)
    pieces = list(stream(path, "table", rows=7))
    assert [len(piece) for piece in pieces] == [7] * 7 + [1]
    assert {(piece.arms, piece.columns) for piece in pieces} == {(log.arms, log.columns)}
    joined = dataclasses.replace(
        log,
        **{
            name: np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("arm", "reward", "propensity", "probability", "context")
        },
    )
    assert_same(joined, load(path, "table"))


def test_json_lines_without_a_header_are_learned(tmp_path: Path) -> None:
    """A file written by hand: arms, features and columns are found in its rows."""
    path = tmp_path / "log.jsonl"
    line = '{"shown": [{"arm": "%s", "propensity": 0.5}], "reward": %d, "context": {"age": %d, "pet": "%s"}}\n'
    path.write_text(line % ("b", 1, 30, "cat") + line % ("a", 0, 50, "dog"))
    log = load(path, "table")
    assert (log.arms, log.columns) == (("a", "b"), ("1", "age", "pet=cat", "pet=dog"))
    assert log.context is not None
    assert log.context.tolist() == [[1, -1, 1, 0], [1, 1, 0, 1]]
    assert log.cleaning == {"columns scaled": 1}


def test_compressed_files_are_known_by_their_bytes(tmp_path: Path) -> None:
    """A gzip file under any name is read."""
    plain, packed = tmp_path / "log.jsonl", tmp_path / "log.data"
    write_jsonl(table(), plain)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert_same(load(packed, "table"), load(plain, "table"))
    named = tmp_path / "log.jsonl.gz"
    write_jsonl(table(), named)
    assert named.read_bytes()[:2] == b"\x1f\x8b"
    assert_same(load(named, "table"), load(plain, "table"))


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    """Lines without the last one are counted, a wrong number of rows and half a gzip file are refused."""
    path = tmp_path / "log.jsonl"
    write_jsonl(table(), path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert load(path, "table").cleaning["files without their last line: perhaps cut short"] == 1
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(LogError, match=r"line 4: expected 3 rows before it, got 2"):
        load(path, "table")
    path.write_bytes(gzip.compress(b"".join(lines))[:-20])
    with pytest.raises(LogError, match="expected whole gzip data"):
        load(path, "table")


def test_a_table_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """The version is in the metadata, and the error says both."""
    for form, write in WRITE.items():
        path = tmp_path / form
        write(table(version=2), path)
        with pytest.raises(LogError, match="expected a table of version 1 or before, got 2"):
            load(path, "table")


def test_parquet_of_others_is_refused_by_name(tmp_path: Path) -> None:
    """No header, no table."""
    path = tmp_path / "other.parquet"
    pq.write_table(whole(table().batches, table().header).select(["reward"]).schema.empty_table(), path)
    with pytest.raises(LogError, match=r"other.parquet: expected a header under 'bandit-log'"):
        load(path, "table")


def test_a_fault_of_json_is_told_with_its_line(tmp_path: Path) -> None:
    """Which line, and what was expected there."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"shown": [{"arm": "a", "propensity": 1}], "reward": 0}\n{"shown": 3, "reward": 0}\n')
    with pytest.raises(LogError, match=r"log.jsonl, line 2: Expected `array`, got `int` - at `\$.shown`"):
        load(path, "table")


def test_a_number_too_large_for_its_column_is_told(tmp_path: Path) -> None:
    """Which column, and what it takes."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"shown": [{"arm": "a", "propensity": 1}], "reward": 0, "position": 3000000000}\n')
    with pytest.raises(LogError, match="column 'position': expected values of int32, got others"):
        load(path, "table")


def test_batches_become_row_groups_that_are_read_one_by_one(tmp_path: Path) -> None:
    """More rows than a group holds are two groups, and no row is lost."""
    n = ROWS + 10
    log = Log(("a",), np.zeros(n, np.int64), np.arange(n) / 1.0, np.ones(n))
    path = tmp_path / "log.parquet"
    assert write_parquet(from_log(log), path) == n
    assert pq.ParquetFile(path).num_row_groups == 2
    assert load(path, "table").reward.tolist() == log.reward.tolist()


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    """Complete, or not there at all: an older file stays as it was."""

    def broken() -> Any:
        yield from table().batches
        raise LogError("the source broke")

    for form, write in WRITE.items():
        path = tmp_path / form
        path.write_text("before")
        with pytest.raises(LogError, match="the source broke"):
            write(dataclasses.replace(table(), batches=broken()), path)
        assert [each.name for each in tmp_path.iterdir() if each.name.startswith(form)] == [form]
        assert path.read_text() == "before"


def test_the_grid_is_the_servers_own() -> None:
    """x of a table on the grid equals the server's encoder, whatever the numbers: rounded and clipped."""
    features = (Number("age", min=-3, max=9), Boolean("member"), Category("country", ("cn", "us"), other=True))
    encoder = compile_encoder(features)
    ours = (Feature("age", "number", 3.0, 6.0), *FEATURES[1:])
    rng = np.random.default_rng(2)
    ages = [*rng.normal(3, 20, 200).tolist(), 1e300, -1e300]
    contexts = [{"age": age, "member": age > 0, "country": str(rng.choice(["cn", "us", "fr"]))} for age in ages]
    x = encoder.encode([msgspec.convert(context, encoder.context_type) for context in contexts])
    X = matrix(ours, struct_array(ours, contexts), grid=True)
    assert np.array_equal(X * ONE, x)


def test_a_survey_standardises_numbers() -> None:
    """Mean and standard deviation of all rows, whatever the batches; equal numbers and missing ones are no trouble."""
    rng = np.random.default_rng(3)
    v = rng.normal(1e6, 2.0, 1000)
    survey = Survey()
    for piece in np.array_split(v, 7):
        survey.add_rows([{"v": float(each), "same": 0.1} for each in piece])
    survey.add_rows([{"v": None}, None])
    (number, same), counts = survey.result()
    assert (number.mean, number.scale) == pytest.approx((v.mean(), v.std()), rel=1e-12)
    assert (same.mean, same.scale) == pytest.approx((0.1, 1.0))
    assert counts == {"columns scaled": 2}


def test_categories_of_many_values_are_cut_and_names_left_out() -> None:
    """The 50 most frequent levels and one for the rest; texts that are mostly different are no category."""
    survey = Survey()
    rows_ = [{"city": f"c{i % 60 if i % 2 else i % 50}", "id": f"id-{i}"} for i in range(2000)]
    survey.add_rows(rows_)
    (city,), counts = survey.result()
    assert (city.name, len(city.levels), city.other) == ("city", LEVELS, True)
    assert {f"c{i}" for i in range(50)} >= set(city.levels)
    assert sorted(counts.values()) == [1, 1]
    assert f"columns left out: texts of more than {LEVELS} values, mostly different" in counts
    survey.add_rows([{"city": f"x{i}"} for i in range(DISTINCT + 1)])
    assert survey.result()[0] == ()


def test_a_context_never_has_more_columns_than_a_server_takes() -> None:
    """The rarest features are left out, and counted."""
    survey = Survey(sparse=True)
    survey.add_rows([{f"w{i}": 1.0 for i in range(2000)}, {f"w{i}": 1.0 for i in range(1000, 2000)}])
    features, counts = survey.result()
    assert len(column_names(features)) == 1024
    assert {f"w{i}" for i in range(1000, 2000)} <= {feature.name for feature in features}
    assert counts == {"columns left out: beyond 1024, the rarest": 2000 - 1023}


def test_absent_numbers_of_sparse_contexts_are_zeros() -> None:
    """Half of the rows have v = 2: mean 1, deviation 1. A feature that is always 1 is a boolean."""
    survey = Survey(sparse=True)
    contexts: list[dict[str, Any]] = [{"v": 2.0, "word": 1.0}, {}]
    survey.add_rows(contexts)
    features, _ = survey.result()
    assert features == (Feature("v", "number", 1.0, 1.0), Feature("word", "boolean"))
    assert matrix(features, struct_array(features, contexts, sparse=True)).tolist() == [[1, 1, 1], [1, -1, 0]]


def test_a_log_that_breaks_its_promises_makes_no_table() -> None:
    """A context without an intercept, or with a name twice, is refused before it is on disk."""
    x = np.array([[2.0, 0.0, 0.0]])
    log = Log(("a",), np.array([0]), np.ones(1), np.ones(1), context=x)
    with pytest.raises(LogError, match="expected a first column of 1"):
        from_log(log)
    x[0, 0] = 1
    with pytest.raises(LogError, match="expected columns with different names"):
        from_log(dataclasses.replace(log, columns=("1", "v", "v")))
    assert log_of(from_log(log)).columns == ("1", "x1", "x2")


def test_every_column_and_field_of_the_header_is_documented() -> None:
    """docs/logged-data.md describes each, by its name."""
    for name in [*COLUMNS, *FORMATS, "context", *Header.__struct_fields__, *Feature.__struct_fields__]:
        assert f"`{name}`" in DOC, name
    assert set(ALWAYS) == {"shown", "reward"}


def test_the_code_of_the_documentation_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands there, in the repository's folder."""
    monkeypatch.chdir(Path(__file__).parents[3])
    (code,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    exec(code, {})  # noqa: S102 - our own documentation
    assert capsys.readouterr().out.startswith("10000 34 46.0 {'columns of context: user_feature_0 (3 values), ")
