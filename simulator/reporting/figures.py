"""The report's drawings: dark on light, narrow enough for a phone, their text real text, the same bytes each time."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bandit.arrays import Vector
from bandit.errors import printable
from simulator.ope.checks.overlap import Verdict
from simulator.reporting.formatting import MEANING
from simulator.studies.across_seeds import Band
from simulator.wording import number

WIDTH = 4.9  # inches, 353 units of SVG: a phone shows it without shrinking its text
LABEL = 22  # letters of a label
WIDE = 3.0  # intervals more than this many times as wide as the usual one are cut at the edge
STYLE: Any = {  # matplotlib types each key by itself
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,  # a name may have dollar signs
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "figure.constrained_layout.use": True,
}
INK, SOFT = "#1a1a1a", "#6b6b6b"
COLOURS: dict[Verdict, str] = {
    "interval": "#1f4e9c",
    "sequence": "#b04a00",
    "assumed": "#b04a00",
    "biased": "#7d8a99",
    "refused": SOFT,
}
MARKERS: dict[Verdict, str] = {"interval": "o", "sequence": "s", "assumed": "s", "biased": "d", "refused": "x"}
SERIES = ("#1f4e9c", "#b04a00", "#22762e", "#7a3d9c", "#8a6d00", "#b3225c")


class Mark(NamedTuple):
    """A value with its interval; no ends where there is none."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    said: Verdict


@dataclass(frozen=True)
class Picture:
    """A finished drawing.

    Attributes:
        name: of its files.
        svg: a whole SVG file.
        png: a whole PNG file; empty where none was asked for.
        alt: what it shows, in words.
    """

    name: str
    svg: str
    png: bytes
    alt: str

    @property
    def inline(self) -> Markup:
        """The drawing as part of a page: no prologue, no addresses, no id that another drawing has too."""
        svg = self.svg[self.svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
        svg = re.sub(r"<[^>]*>", lambda tag: self._inner(tag[0]), svg)  # what is between tags is text: names
        label = Markup('<svg role="img" aria-label="{}"').format(printable(self.alt))
        return label + Markup(svg.removeprefix("<svg"))  # noqa: S704 - matplotlib escapes every name in it

    def _inner(self, tag: str) -> str:
        """A tag as it is inside of a page."""
        tag = re.sub(r' xmlns(:\w+)?="[^"]*"| (?:width|height)="[\d.]+pt"', "", tag)
        tag = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{self.name}-", tag)
        return tag.replace("'DejaVu Sans', sans-serif", "'DejaVu Sans', Verdana, sans-serif")

    def write(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.svg").write_text(self.svg, encoding="utf-8")
        (folder / f"{self.name}.png").write_bytes(self.png)


@contextmanager
def drawing() -> Iterator[None]:
    """The style that figures are made and saved in; names in letters that the font lacks are no reason to warn."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def finished(figure: Figure, name: str, alt: str, *, png: bool) -> Picture:
    """The figure as files in memory."""
    svg, bitmap = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    if png:
        figure.savefig(bitmap, format="png", dpi=200)
    return Picture(name, svg.getvalue(), bitmap.getvalue(), alt)


def label(text: str, most: int = LABEL) -> str:
    """A name short enough to stand beside an axis, its middle left out, letters that cannot be drawn as escapes."""
    text = printable(text)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def forest(groups: Mapping[str, Sequence[Mark]], xlabel: str, reference: float | None, meaning: str = "") -> Figure:
    """Values with intervals, one below the other, group by group; `reference` is a line, `meaning` what it is."""
    titled = len(groups) > 1
    rows = sum(len(marks) + titled for marks in groups.values())
    figure = Figure(figsize=(WIDTH, 0.9 + 0.23 * rows))
    axes = figure.add_subplot()
    y, ticks, low_high = 0, list[tuple[int, str]](), limits(groups, reference)
    for title, marks in groups.items():
        if titled:
            ticks.append((y, label(title)))
            axes.axhline(y, color="#e4e4e4", lw=9, zorder=0)
            y += 1
        for mark in marks:
            draw_mark(axes, y, mark, low_high)
            ticks.append((y, label(mark.label)))
            y += 1
    _finish_forest(axes, ticks, low_high, xlabel)
    if reference is not None:
        axes.axvline(reference, color=INK, lw=1, ls="--", zorder=1)
        axes.set_title(f"dashed: {meaning}", fontsize=8, color=SOFT, loc="right")
    return figure


def _finish_forest(axes: Axes, ticks: list[tuple[int, str]], low_high: tuple[float, float], xlabel: str) -> None:
    axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
    axes.set_ylim(max(len(ticks), 1) - 0.4, -0.6)
    axes.set_xlim(*low_high)
    axes.set_xlabel(xlabel)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4", lw=0.6)
    axes.set_axisbelow(True)


def limits(groups: Mapping[str, Sequence[Mark]], reference: float | None) -> tuple[float, float]:
    """From where to where an axis goes: all values, and all intervals but those much wider than the usual one."""
    marks = [mark for marks in groups.values() for mark in marks]
    ends = [(mark.low, mark.high) for mark in marks if mark.low is not None and mark.high is not None]
    usual = float(np.median([high - low for low, high in ends])) if ends else 0.0
    points = [end for low, high in ends if high - low <= WIDE * usual for end in (low, high)]
    points += [mark.value for mark in marks if mark.value is not None and mark.said != "refused"]
    points += [] if reference is None else [reference]
    if not points:
        return 0.0, 1.0
    low, high = min(points), max(points)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - pad, high + pad


def draw_mark(axes: Axes, y: float, mark: Mark, low_high: tuple[float, float]) -> None:
    """One value with its interval; an end beyond the axis is an arrow at its edge, no interval the words for it."""
    colour, (left, right) = COLOURS[mark.said], low_high
    if mark.low is None or mark.high is None or mark.value is None:
        style: Any = {"va": "center", "color": SOFT, "fontsize": 8, "bbox": {"fc": "white", "lw": 0, "pad": 1}}
        axes.text(0.02, y, MEANING["refused"], transform=axes.get_yaxis_transform(), **style)
        return
    axes.plot([max(mark.low, left), min(mark.high, right)], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
    for end, edge, arrow, past in ((mark.low, left, "<", mark.low < left), (mark.high, right, ">", mark.high > right)):
        axes.plot([edge if past else end], [y], arrow if past else "|", color=colour, ms=6, clip_on=False)
    face = colour if mark.said == "interval" else "white"
    axes.plot([mark.value], [y], MARKERS[mark.said], color=colour, mfc=face, ms=5)


def draw_over_time(marks: Sequence[Mark], ylabel: str) -> Figure:
    """Values with intervals from left to right, with a line at 0."""
    figure = Figure(figsize=(WIDTH, 3.1))
    axes = figure.add_subplot()
    bottom, top = limits({"": marks}, 0.0)
    for x, mark in enumerate(marks):
        if mark.low is None or mark.high is None or mark.value is None:
            axes.text(x, bottom, "no\nanswer", ha="center", va="bottom", color=SOFT, fontsize=7)
            continue
        colour = COLOURS[mark.said]
        axes.plot([x, x], [max(mark.low, bottom), min(mark.high, top)], color=colour, lw=1.6)
        face = colour if mark.said == "interval" else "white"
        axes.plot([x], [mark.value], MARKERS[mark.said], color=colour, mfc=face, ms=5)
    axes.axhline(0, color=INK, lw=1, ls="--", zorder=1)
    axes.set_ylim(bottom, top)
    axes.set_xlim(-0.5, len(marks) - 0.5)
    axes.set_xticks(range(len(marks)), [mark.label for mark in marks], rotation=40, ha="right", fontsize=8)
    axes.set_ylabel(ylabel)
    return figure


def draw_weights(of: Mapping[str, Vector], titles: Sequence[str]) -> Figure:
    """How the importance weights above 0 are spread, a panel for each target, on one logarithmic axis."""
    positive = [w[w > 0] for w in of.values()]
    shown = np.concatenate([*positive, np.ones(1)])
    low, high = math.floor(math.log10(shown.min()) - 0.01), math.ceil(math.log10(shown.max()) + 0.01)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.6 * len(of)))
    panels = figure.subplots(len(of), 1, sharex=True, squeeze=False)[:, 0]
    for axes, w, title, colour in zip(panels, positive, titles, SERIES * len(of), strict=False):
        axes.hist(w, bins=np.logspace(low, high, 41).tolist(), color=colour)
        axes.axvline(1, color=INK, lw=1, ls="--")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        axes.set_title(label(title, 64), fontsize=9, loc="left")
        axes.yaxis.set_major_formatter(_plainly)
        axes.set_ylabel("rows")
    panels[-1].xaxis.set_major_formatter(_plainly)
    panels[-1].xaxis.set_minor_formatter("")
    panels[-1].set_xlabel("weight w = target's probability / logged propensity")
    figure.align_ylabels()
    return figure


def _plainly(x: float, _: object) -> str:
    """A tick of a logarithmic axis, as a plain number."""
    return number(x, 1)


class Arm(NamedTuple):
    """An arm's mean reward, and its shares in the log and in the target."""

    mark: Mark
    shown: float
    wanted: float


def draw_arms(of: Sequence[Arm], target: str, each: str, unit: str) -> Figure:
    """Each arm's mean reward, and beside it how often it was shown and would have been."""
    figure = Figure(figsize=(WIDTH, 1.3 + 0.23 * len(of)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    low_high = limits({"": [arm.mark for arm in of]}, None)
    for y, arm in enumerate(of):
        draw_mark(left, y, arm.mark, low_high)
        right.plot([arm.shown], [y], "o", color=SOFT, ms=5, label="in the log", clip_on=False)
        right.plot([arm.wanted], [y], "D", color=SERIES[0], mfc="none", ms=5, label="in the target", clip_on=False)
    _finish_forest(left, [(y, label(arm.mark.label, 14)) for y, arm in enumerate(of)], low_high, unit)
    left.locator_params(axis="x", nbins=4)
    right.set_xlim(left=0)
    right.grid(axis="x", color="#e4e4e4", lw=0.6)
    right.locator_params(axis="x", nbins=4)
    right.set_xlabel(f"share of {each}s")
    right.tick_params(axis="y", length=0)
    handles = right.get_lines()[:2]
    figure.legend(handles, ["in the log", f"in “{label(target, 18)}”"], loc="outside upper right", ncols=2, fontsize=8)
    return figure


def draw_calibration(predicted: Sequence[float], marks: Sequence[Mark], unit: str) -> Figure:
    """Observed mean rewards, with intervals, against predicted ones, with the line of a model that is right."""
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    for x, mark in zip(predicted, marks, strict=True):
        if mark.low is not None and mark.high is not None:
            axes.plot([x, x], [mark.low, mark.high], color=COLOURS[mark.said], lw=1.4)
        axes.plot([x], [mark.value or 0.0], MARKERS[mark.said], color=COLOURS[mark.said], ms=5)
    axes.axline((predicted[0], predicted[0]), slope=1, color=INK, lw=1, ls="--")
    axes.set_xlabel(f"predicted {unit}")
    axes.set_ylabel(f"observed {unit}")
    axes.locator_params(nbins=5)
    return figure


def draw_learning(bands: Sequence[Band], levels: Mapping[str, float]) -> Figure:
    """Learning curves with their intervals over seeds, and levels to compare them with."""
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    lines, names = [], []
    for band, colour in zip(bands, SERIES * len(bands), strict=False):
        lines += axes.plot(band.ends, band.mean, color=colour, lw=1.5)
        names.append(label(band.policy, 30))
        if np.isfinite(band.low).all():
            axes.fill_between(band.ends, band.low, band.high, color=colour, alpha=0.18, lw=0)
    for (name, level), style in zip(levels.items(), ("--", ":"), strict=True):
        lines.append(axes.axhline(level, color=SOFT, lw=1, ls=style))
        names.append(name)
    axes.set_xlabel("rounds")
    axes.set_ylabel("expected reward a round")
    drawn = figure.legend(lines, ["-"] * len(names), loc="outside lower center", ncols=2, fontsize=8)
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set_text(name)  # given at once, one that begins with _ would be left out
    return figure
