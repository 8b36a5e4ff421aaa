"""Samples of data for the tests of what is inferred from them."""

import csv
import io
import random
from collections.abc import Sequence

from hypothesis import strategies as st

NAMES = (
    "arm", "action", "reward", "clicked", "revenue", "order_value", "last_order_value", "propensity", "timestamp",
    "user_id", "decision_id", "position", "age", "hour", "weekday", "country", "zip", "score", "note", "f0", "x y", "é",
    'quo"te', "back\\slash", "name", "_", "cost", "días", "price", "event_id", "item", "device",
)  # fmt: skip
TEXTS = st.text(max_size=8)
CELLS = st.one_of(
    st.just(""),
    st.sampled_from(["true", "false", "0", "1", "NA", "null", "a", "b", "c", "2026-11-30", "1.5", "1e9", "-3", "7"]),
    st.sampled_from(["yes", "no", "ja", "n/a", "-", "$1.50", "1.234,50 €", "12 km", "1,234"]),
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.lists(st.floats(-1, 1), min_size=2, max_size=2).map(str),
    TEXTS,
)


@st.composite
def tables(draw: st.DrawFn) -> str:
    """CSV of any names and values: columns of one kind, few values or all kinds."""
    names = draw(st.lists(st.sampled_from(NAMES) | TEXTS, min_size=1, max_size=8, unique_by=str.strip))
    rows = draw(st.sampled_from([0, 1, 3, 30, 300]))
    seeded = random.Random(draw(st.integers(0, 2**32)))
    columns = []
    for _ in names:
        few = draw(st.lists(CELLS, min_size=1, max_size=5))
        spread = [f"{seeded.gauss(50, 10 ** draw(st.integers(-3, 9))):.3f}" for _ in range(rows)]
        columns.append(
            (draw(st.sampled_from(["few", "spread"])) == "few" and [seeded.choice(few) for _ in range(rows)]) or spread
        )
    return as_csv(names, list(zip(*columns, strict=True)))


def as_csv(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A CSV file's text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return out.getvalue()


def shop(rows: int = 600, seed: int = 1) -> str:
    """A shop's log as one would export it: each kind of column once, and two that tell the reward."""
    r = random.Random(seed)
    names = (
        "impression_id", "ts", "user_id", "arm", "propensity", "age", "hour", "member", "device", "city", "basket",
        "zip", "currency", "taste", "clicked", "order_value", "confirmed_at", "checkout",
    )  # fmt: skip
    lines = []
    for i in range(rows):
        click = r.random() < 0.2
        lines.append([
            f"i{i}", f"2026-11-{1 + i % 28:02d}T{i % 24:02d}:00:00Z", f"u{r.randrange(rows // 3)}",
            r.choice(["spring", "summer", "autumn"]), "0.3333", "" if i % 17 == 0 else str(r.randint(18, 80)),
            str(i % 24), r.choice(["true", "false"]), r.choice(["phone"] * 5 + ["desktop"] * 3 + ["tablet"]),
            f"city{r.randrange(100)}", f"{r.lognormvariate(3, 1.6):.2f}", str(r.randrange(10000, 10040)), "EUR",
            f"[{r.random():.3f}, {r.random():.3f}]", str(int(click)), f"{r.lognormvariate(3, 1):.2f}" if click else "",
            f"2026-11-30T{i % 24:02d}:10:00Z" if click else "", "yes" if click else "no",
        ])  # fmt: skip
    return as_csv(names, lines)
