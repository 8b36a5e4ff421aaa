"""The report: what it says first, that it stands alone, and that its numbers are those of `evaluate`."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from logs import Array, World, log_of

from bandit.errors import printable
from simulator.logs.log import Log
from simulator.ope.differences import Data, compared, lift
from simulator.ope.evaluate import evaluate
from simulator.reporting import report
from simulator.reporting.contrasts import arms_of, calibration, windows
from simulator.reporting.formatting import plain
from simulator.reporting.segments import MOST, OTHERS, chosen, segments
from simulator.studies.run import Curve
from simulator.wording import number, percent, ranged

SECTIONS = [
    "values",
    "differences",
    "weights",
    "arms",
    "segments",
    "time",
    "model",
    "ratio",
    "cleaning",
    "settings",
    "guide",
]
HOSTILE = ("<script>alert(1)</script>", "--><b>x", "$\\frac{$", "_x", "日本\x07", "]]>&amp;\"'")
DAY = 86_400_000


class Page(HTMLParser):
    """A page taken apart: tags with their attributes, the sentence, and the cells of each section's table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.sentence = self.words = ""
        self._section = self._at = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Where we are."""
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        self._section = given["id"] if tag == "section" else self._section
        self._at = tag + given.get("id", "")
        table = self.tables.setdefault(self._section, [])
        if tag == "tr":
            table.append([])
        elif tag in ("td", "th"):
            table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Text between cells is nobody's."""
        self._at = ""

    def handle_data(self, data: str) -> None:
        """Text."""
        self.words += data
        if self._at == "pverdict":
            self.sentence += data
        elif self._at in ("td", "th"):
            self.tables[self._section][-1][-1] += data

    def all(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [given[name] for _, given in self.tags if name in given]


def world_log(n: int = 3000, seed: int = 0, **fields: object) -> tuple[Log, Array]:
    """A log with times, a category and a yes-or-no among its contexts; and the uniform target."""
    world = World()
    log, _ = world.log(np.random.default_rng(seed), n, world.policy(0.5), **fields)
    assert log.context is not None
    level = np.arange(n) % 3
    context = np.column_stack([log.context, np.eye(3)[level], np.arange(n) % 2])
    columns = ("1", "age", "visits", "country=de", "country=fr", "country=*", "mobile")
    whole = replace(log, context=context, columns=columns, time_ms=1_700_000_000_000 + np.arange(n) * DAY // 100)
    return whole, np.full((n, world.K), 1 / world.K)


def curves() -> list[Curve]:
    """Two seeds of one policy."""
    return [Curve("linucb", s, [10, 20], [0.2, 0.3 + 0.1 * s], [0.5, 0.5], [0.1, 0.1]) for s in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with figures, of two targets."""
    folder = tmp_path_factory.mktemp("report")
    log, uniform = world_log(cleaning={"rows dropped: no reward": 7})
    assert log.probability is not None
    targets = {"uniform": uniform, "as logged": log.probability}
    how, source = {"seed": 5, "alpha": 0.1}, {"log": "a world"}
    report(log, targets, folder / "a.html", how=how, settings=source, curves=curves(), figures=folder / "figures")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    """The same, taken apart."""
    return Page((folder / "a.html").read_text(encoding="utf-8"))


def hostile() -> tuple[Log, dict[str, Array]]:
    """A small log whose every name is an attack, and such targets."""
    n, rng = 300, np.random.default_rng(0)
    P = np.full((n, 6), 1 / 6)
    log = log_of(P, rng.integers(0, 6, n), (rng.random(n) < 0.3).astype(float), cleaning={"<u>rows": 3})
    log = replace(
        log, arms=HOSTILE, context=np.column_stack([np.ones(n), rng.integers(0, 2, n)]), columns=("1", "<i>f=a")
    )
    return log, {"<img src=x>": P, "$a$ <b>": np.eye(6)[np.zeros(n, int)]}


def test_the_first_thing_said_is_what_the_target_would_have_earned(page: Page) -> None:
    """The sentence has DR's value and ends, and stands before every section."""
    log, uniform = world_log()
    (row,) = evaluate(log, uniform, estimators=["dr"], seed=5, alpha=0.1)
    found = re.fullmatch(
        r"“uniform” would have earned ([\d.]+) per decision \(([\d.]+) to ([\d.]+)\), ([\d.]+) to ([\d.]+) less than "
        r"the ([\d.]+) that was earned; for one look this can be believed\.",
        page.sentence,
    )
    assert found is not None, page.sentence
    value, low, high, least, most, earned = map(float, found.groups())
    assert [value, low, high] == pytest.approx([row.value, row.low, row.high], abs=5e-4)
    assert earned == pytest.approx(log.reward.mean(), abs=5e-4)
    gain = lift(Data.of(log, {"seed": 5}), uniform, 0.1)
    assert [-least, -most] == pytest.approx([gain.high, gain.low], abs=6e-4)
    tags = [(tag, given.get("id")) for tag, given in page.tags]
    assert tags.index(("p", "verdict")) < tags.index(("section", "values"))


def test_the_page_is_about_the_best_of_those_clearly_better(tmp_path: Path) -> None:
    """Whatever the order in which targets are named; where none is, about the first."""
    log, uniform = world_log()
    rate = World().rate
    best = np.eye(5)[np.full(len(log), int(rate.mean(axis=0).argmax()))]
    worst = np.eye(5)[np.full(len(log), int(rate.mean(axis=0).argmin()))]
    poor = replace(log, reward=np.where(best[np.arange(len(log)), log.arm] == 1, 1.0, 0.2 * log.reward))
    names = ("worst", "even", "good")
    for order in (names, names[::-1]):
        targets = {name: {"worst": worst, "even": uniform, "good": best}[name] for name in order}
        page = Page(report(poor, targets, tmp_path / "a.html").read_text())
        assert page.sentence.startswith("“good” would have earned"), page.sentence
        assert "good − good" not in page.words
        assert "worst − good" in page.words
    page = Page(report(poor, {"worst": worst, "even": uniform}, tmp_path / "a.html").read_text())
    assert "“worst”" in page.sentence


def test_a_refused_target_is_said_to_have_no_answer(tmp_path: Path) -> None:
    """Where the log never showed what the target wants, no number is in the sentence's place."""
    log, _ = world_log(400)
    assert log.probability is not None
    never = replace(log, probability=np.where(np.arange(log.K) == 4, 0, log.probability + log.probability[:, 4:] / 4))
    keep = never.take(never.arm != 4)
    assert keep.probability is not None
    keep = replace(keep, propensity=keep.probability[np.arange(len(keep)), keep.arm])
    path = report(keep, {"arm-4": np.eye(5)[np.full(len(keep), 4)]}, tmp_path / "a.html")
    said = Page(path.read_text()).sentence
    assert said == (
        "This log cannot say what “arm-4” would have earned: in every row the target plays an arm that could not have "
        "been shown (no common support)."
    )


def test_a_broken_log_is_refused_and_called_broken(tmp_path: Path) -> None:
    """Propensities that were not those drawn with: the sentence and the check both say so."""
    log, uniform = world_log()
    path = report(replace(log, arm=(log.arm * 0)), {"uniform": uniform}, tmp_path / "a.html")
    read = Page(path.read_text())
    assert read.sentence.startswith("This log cannot say")
    assert "The log or the draw is broken: " in read.words
    assert read.tables["ratio"][1][-1] == "broken"


def test_a_log_of_rare_rewards_gets_a_wide_range_and_no_claim(tmp_path: Path) -> None:
    """Few rewards: a confidence sequence, and no difference from what was earned."""
    log, uniform = world_log()
    rare = replace(log, reward=log.reward * (np.arange(len(log)) % 150 == 0))
    said = Page(report(rare, {"uniform": uniform}, tmp_path / "a.html").read_text()).sentence
    ends = r"between [\d.]+ and [\d.]+ per decision \(estimate [\d.]+\)"
    assert re.match(rf"“uniform” would have earned {ends}, not clearly different from the [\d.]+ that", said), said
    assert re.search(
        r"these limits are wide but safe: a normal interval needs some [\d,]+ more decisions like these or", said
    )


def test_a_range_far_wider_than_the_rewards_is_in_doubt(tmp_path: Path) -> None:
    """Limits as wide as a range of 0 to 10,000 allows say nothing of clicks: the report tells where that is from."""
    log, uniform = world_log()
    loose = Page(
        report(log, {"uniform": uniform}, tmp_path / "a.html", how={"reward_range": (0.0, 1e4)}).read_text()
    ).words
    assert "In doubt: rewards have a mean size of 1.00 in a range of 0 to 10,000" in loose
    assert "In doubt: " not in Page(report(log, {"uniform": uniform}, tmp_path / "b.html").read_text()).words


def test_large_values_and_wide_limits_keep_three_digits() -> None:
    """A value of 2.46 is no 2, however wide its limits; narrow limits have two digits of their width."""
    assert ranged(2.456, 0.0, 125.4) == ("2.46", "0", "125")
    assert ranged(0.10512, 0.09834, 0.11278) == ("0.105", "0.0983", "0.113")
    assert ranged(100.123, 100.081, 100.164) == ("100.123", "100.081", "100.164")
    assert ranged(-1234.5, -2000.0, None) == ("−1,234", "–", "–")


def test_words_of_a_difference_come_from_its_interval() -> None:
    """Never "more" of an interval below 0, whatever the estimate."""
    log, uniform = world_log()
    for name, pi in (("uniform", uniform), ("arm", np.eye(5)[np.full(len(log), 2)])):
        gain = lift(Data.of(log, {}), pi, 0.05)
        assert gain.low <= gain.value <= gain.high, name


def test_every_section_is_there_in_order(page: Page) -> None:
    """Learning curves stand after the model, where there are any; the contents list links to each section."""
    with_curves = [*SECTIONS[:7], "learning", *SECTIONS[7:]]
    assert [given["id"] for tag, given in page.tags if tag == "section"] == with_curves
    assert [given["href"] for tag, given in page.tags if tag == "a"][: len(with_curves)] == [
        f"#{name}" for name in with_curves
    ]


def test_without_curves_or_context_the_page_still_has_every_other_section(tmp_path: Path) -> None:
    """A log with the least there can be: no context, no time, no vectors, few rows."""
    n = 120
    log = Log(("a", "b"), np.arange(n) % 2, (np.arange(n) % 5 == 0).astype(float), np.full(n, 0.4))
    read = Page(report(log, {"a": np.eye(2)[np.zeros(n, int)]}, tmp_path / "deep" / "a.html").read_text())
    assert [given["id"] for tag, given in read.tags if tag == "section"] == SECTIONS
    assert "neither features nor positions to split it by" in read.words
    assert "The log: 120 decisions among 2 arms;" in read.words
    one = Log(("a",), np.zeros(1, int), np.ones(1), np.ones(1))
    read = Page(report(one, {"a": np.ones((1, 1))}, tmp_path / "b.html").read_text())
    assert "The log: 1 decision among 1 arm;" in read.words


def test_the_page_asks_for_nothing_from_anywhere(folder: Path, page: Page) -> None:
    """No script, no source, no style from elsewhere; addresses stand in links to papers only."""
    text = (folder / "a.html").read_text(encoding="utf-8")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "img", "base", "image"}
    assert not page.all("src") + page.all("srcset")
    outside = [(tag, given["href"]) for tag, given in page.tags if not given.get("href", "#").startswith("#")]
    assert outside
    assert all(tag == "a" and where.startswith("https://arxiv.org/abs/") for tag, where in outside)
    assert len(re.findall(r"https?:", text)) == len(outside)
    assert not [each for each in re.findall(r"url\((.)", text) if each != "#"]
    assert "@import" not in text
    assert not [name for _, given in page.tags for name in given if name.startswith("on")]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Names of arms, targets, features, settings and cleaning never become tags, neither in tables nor in drawings."""
    log, targets = hostile()
    path = report(log, targets, tmp_path / "a.html", settings={"<s>": "<script>1</script>"}, figures=tmp_path / "f")
    read = Page(path.read_text(encoding="utf-8"))
    assert not {tag for tag, _ in read.tags} & {"script", "b", "i", "u", "s", "img"}
    assert [row[0] for row in read.tables["arms"][1:]] == [printable(log.arms[a]) for a in arms_of(log, 6)]
    for svg in (tmp_path / "f").glob("*.svg"):
        ElementTree.parse(svg)  # noqa: S314 - we wrote it


def test_the_same_input_makes_the_same_bytes(tmp_path: Path) -> None:
    """Page, SVG and PNG, with nothing of the machine or the time in them."""
    log, targets = hostile()
    for name in "ab":
        report(log, targets, tmp_path / name / "a.html", curves=curves(), figures=tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 17
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_every_figure_is_written_as_svg_and_png(folder: Path) -> None:
    """One of each for every section that draws."""
    drawn = {"values", "differences", "weights", "arms", "segments", "time", "model", "learning"}
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"{x}.{end}" for x in drawn for end in ("svg", "png")
    }
    for name in drawn:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(folder / "figures" / f"{name}.svg").getroot().tag.endswith("svg")  # noqa: S314


def test_figures_and_tables_are_named_for_those_who_do_not_see_them(page: Page) -> None:
    """Each drawing has its words, each column its head, and no id is there twice."""
    drawings = [given for tag, given in page.tags if tag == "svg"]
    assert len(drawings) == 8
    assert all(given["role"] == "img" and len(given["aria-label"]) > 30 and "viewbox" in given for given in drawings)
    assert all(given.get("scope") in ("col", "row") for tag, given in page.tags if tag == "th")
    assert len(page.all("id")) == len(set(page.all("id")))
    ids = set(page.all("id"))
    assert all(where[1:] in ids for name in ("href", "xlink:href") for where in page.all(name) if where[0] == "#")
    assert ("html", {"lang": "en"}) in page.tags


def test_the_values_on_the_page_are_those_of_evaluate(page: Page) -> None:
    """Every estimator of both targets, to the last decimal that is printed."""
    log, uniform = world_log()
    assert log.probability is not None
    rows = [row for target in (uniform, log.probability) for row in evaluate(log, target, seed=5, alpha=0.1)]
    printed = page.tables["values"][1:]
    assert len(printed) == len(rows) == 20
    for cells, row in zip(printed, rows, strict=True):
        texts = [cells[1], *cells[2].split(" to ")]
        decimals = len(cells[1].partition(".")[2])
        assert decimals >= 2
        assert [float(text) for text in texts] == pytest.approx(
            [row.value, row.low, row.high], abs=0.51 * 10**-decimals
        )
    assert page.tables["values"][0][2] == "90\u00a0% interval"


def test_a_difference_is_paired_row_by_row() -> None:
    """By hand: the mean of sum_a (pi - mu) q + (w - 1) (r - q) over the rows, and at least its standard error."""
    log, uniform = world_log()
    data = Data.of(log, {})
    found = lift(data, uniform, 0.05)
    at = np.arange(len(log)), log.arm
    less, w = uniform - log.probability, uniform[at] / log.propensity
    each = (less * data.q).sum(axis=1) + (w - 1) * (log.reward - data.q[at])
    half = 1.959964 * each.std(ddof=1) / np.sqrt(len(log))
    assert found.verdict == "interval"
    assert found.value == pytest.approx(each.mean())
    assert half <= found.high - found.value < 1.3 * half
    assert found.high + found.low == pytest.approx(2 * found.value)
    assert found.share == pytest.approx(each.mean() / log.reward.mean())


def test_a_policy_does_not_differ_from_itself() -> None:
    """The paired difference is exactly nothing, with no spread."""
    log, uniform = world_log()
    for looks in ("one", "any"):
        assert compared(Data.of(log, {}), uniform, uniform, 0.05, looks)[:3] == (0.0, 0.0, 0.0)
    assert lift(Data.of(log, {}), log.probability, 0.05)[:3] == (0.0, 0.0, 0.0)


def test_one_sequence_of_the_paired_difference_is_narrower_than_two() -> None:
    """Two targets that differ in a tenth of the contexts: less than half as wide as low A less high B."""
    log, uniform = world_log()
    one = np.where((np.arange(len(log)) % 10 == 0)[:, None], np.eye(5)[np.full(len(log), 1)], uniform)
    data = Data.of(log, {})
    found = compared(data, one, uniform, 0.1, "any")
    rows = [evaluate(log, pi, estimators=["dr"], alpha=0.05, looks="any")[0] for pi in (one, uniform)]
    assert found.verdict == "sequence"
    assert found.low <= found.value <= found.high
    assert found.high - found.low < sum(row.high - row.low for row in rows) / 2


@pytest.mark.parametrize(("thinned", "kind"), [(1, "interval"), (60, "sequence")])
def test_intervals_of_differences_cover_the_truth(thinned: int, kind: str) -> None:
    """In 60 logs at 95 %, at least 52 (a binomial has fewer with probability .002); sequences nearly always."""
    world, held, kinds = World(), 0, set()
    logging, uniform = world.policy(0.5), np.full((4000, world.K), 1 / world.K)
    truth = (world.value(uniform) - world.value(logging)) / thinned
    for seed in range(60):
        rng = np.random.default_rng(seed)
        log, rows = world.log(rng, 1200, logging)
        log = replace(log, reward=log.reward * (rng.random(len(log)) < 1 / thinned))
        found = lift(Data.of(log, {"q": "mean"}), uniform[rows], 0.05)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
        kinds.add(found.verdict)
    assert kind in kinds
    assert held >= 52


def test_windows_arms_and_bins_hold_every_row_once() -> None:
    """Windows in order of time, also where the log is not; as many as the log can answer for."""
    log, _ = world_log(1000)
    assert log.time_ms is not None
    turned = log.take(np.arange(999, -1, -1))
    parts = windows(turned, 1300)
    assert np.concatenate(parts).tolist() == list(range(999, -1, -1))
    assert [len(windows(log, n_eff)) for n_eff in (0, 900, 1300, 1e9)] == [2, 2, 3, 10]
    predicted, bins = calibration(Data.of(log, {}))
    assert sorted(np.concatenate(bins).tolist()) == list(range(1000))
    assert [len(rows) for rows in bins] == [100] * 10
    assert all(predicted[a].max() <= predicted[b].min() for a, b in pairwise(bins))
    assert len(calibration(Data(log, np.full((1000, 5), 0.2), (0.0, 1.0)))[1]) == 1


def labelled(log: Log, name: str) -> Iterator[tuple[str, int]]:
    """Each segment with its size."""
    return ((label, len(rows)) for label, rows in segments(log, name).items())


def test_segments_are_levels_answers_halves_and_places() -> None:
    """By hand, of a log of ten rows."""
    context = np.column_stack([np.ones(10), np.arange(10), [1] * 5 + [0] * 5, [0] * 5 + [1] * 2 + [0] * 3, [1, 0] * 5])
    log = Log(("a",), np.zeros(10, int), np.zeros(10), np.ones(10), context=context, position=np.arange(10) % 2)
    log = replace(log, columns=("1", "age", "land=de", "land=*", "mobile"))
    assert list(labelled(log, "land")) == [("de", 5), ("land not known", 3), ("another or none", 2)]
    assert dict(labelled(log, "mobile")) == {"no": 5, "yes": 5}
    assert dict(labelled(log, "age")) == {"below its median": 5, "at its median or above": 5}
    low = replace(log, context=np.where(log.context > np.quantile(log.context, 0.9, axis=0), log.context, 0.0))
    assert dict(labelled(low, "age")) == {"at its lowest": 9, "above its lowest": 1}
    assert list(labelled(log, "position")) == [("position 1", 5), ("position 2", 5)]
    assert chosen(log, None) == "land"
    assert chosen(replace(log, context=None, columns=()), None) == "position"
    assert chosen(replace(log, context=None, columns=(), position=None), None) is None
    with pytest.raises(ValueError, match=r"by one of age, land, mobile, position; got 'lamd'"):
        chosen(log, "lamd")


def test_many_levels_are_ten_segments_and_the_others_together() -> None:
    """No row is lost."""
    context = np.column_stack([np.ones(60), np.eye(15)[np.arange(60) % 15]])
    log = Log(("a",), np.zeros(60, int), np.zeros(60), np.ones(60), context=context)
    log = replace(log, columns=("1", *(f"city={i}" for i in range(15))))
    found = dict(labelled(log, "city"))
    assert len(found) == MOST + 1
    assert found[OTHERS] == 20
    assert sum(found.values()) == 60


def test_learning_curves_and_settings_are_given_as_they_are(page: Page) -> None:
    """Two seeds end at .3 and .4: mean .35, t interval at 90 % .35 -+ 6.3138 x .05. Seeds and defaults are listed."""
    assert page.tables["learning"][1] == ["linucb", "20", "0.350", "0.0343 to 0.666"]
    listed = dict(row for row in page.tables["settings"][1:] if len(row) == 2)
    assert {name: listed[name] for name in ("seed", "alpha", "q", "log")} == {
        "seed": "5", "alpha": "0.1", "q": "ridge", "log": "a world",
    }  # fmt: skip
    assert page.tables["cleaning"][1] == ["rows dropped: no reward", "7"]


def test_one_seed_has_a_curve_and_no_interval(tmp_path: Path) -> None:
    """A t interval of one value is infinite: it is not drawn, and not printed."""
    log, uniform = world_log(200)
    path = report(log, {"uniform": uniform}, tmp_path / "a.html", curves=curves()[:1])
    assert Page(path.read_text()).tables["learning"][1] == ["linucb", "20", "0.300", "–"]


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_log_too_small_for_anything_still_makes_a_page(tmp_path: Path, n: int) -> None:
    """Anything is possible, and nothing breaks."""
    log, uniform = world_log(n)
    said = Page(report(log, {"uniform": uniform}, tmp_path / "a.html").read_text()).sentence
    assert said.startswith("“uniform” would have earned between 0 and 1.00 per decision")


def test_a_report_of_no_target_is_refused(tmp_path: Path) -> None:
    """There is nothing to say."""
    with pytest.raises(ValueError, match="at least one target; got none"):
        report(world_log(60)[0], {}, tmp_path / "a.html")


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (number(0.10512), "0.105"),
        (number(-1234567.0), "−1,234,567"),
        (number(0.0), "0"),
        (number(float("inf")), "∞"),
        (number(None), "–"),
        (percent(-0.684), "−68\u00a0%"),
        (percent(0.0123, sign=True), "+1.2\u00a0%"),
        (percent(0.0997), "10\u00a0%"),
        (plain(object()), "<object object>"),
        (plain([1, None, True]), "1, not set, yes"),
        (plain(np.zeros((2, 3))), "a table of shape (2, 3)"),
    ],
)
def test_numbers_are_written_for_people(made: str, text: str) -> None:
    """By hand."""
    assert made == text


def test_a_value_has_the_decimals_that_its_interval_deserves() -> None:
    """Three digits each, or two of the width; a lopsided interval does not round its value away."""
    assert ranged(0.105123, 0.0981, 0.1134) == ("0.105", "0.0981", "0.113")
    assert ranged(0.0049, 0.0015, 0.0234) == ("0.00490", "0.00150", "0.0234")
    assert ranged(1234.5, 1000.0, 1500.0) == ("1,234", "1,000", "1,500")
    assert ranged(-0.0001, -0.5, 0.5) == ("−0.000100", "−0.500", "0.500")
    assert ranged(0.2, None, None) == ("0.200", "–", "–")
