"""A report of what policies would have earned: one HTML page for people, that needs nothing but itself.

Sections answer (`answers`), say what the answers rest on (`evidence`) and what is in doubt (`doubts`); `figures` draws.
Imports `simulator.studies`, `simulator.ope`, `simulator.logs` and below. Begin with `report` here, then `model`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bandit.arrays import Matrix
from bandit.errors import printable
from simulator.logs.log import Log
from simulator.ope.lift.pair import Pair
from simulator.reporting.answers import differences, facts, over_time, per_arm, per_segment, spread_of_weights, values
from simulator.reporting.evidence import cleaning, guide, learning, model, ratio
from simulator.reporting.evidence import settings as all_settings
from simulator.reporting.figures import drawing
from simulator.reporting.model import Section, Subject
from simulator.reporting.slices import slices
from simulator.studies.run import Curve

TEMPLATE = "report.html.j2"


def report(
    log: Log,
    targets: Mapping[str, Matrix],
    output: Path,
    *,
    how: Mapping[str, Any] | None = None,
    settings: Mapping[str, object] | None = None,
    curves: Sequence[Curve] = (),
    segment: str | None = None,
    figures: Path | None = None,
    title: str = "Offline evaluation",
    pair: Pair | None = None,
) -> Path:
    """The path of one page of HTML, written: a sentence first, then values, differences, and what they rest on.

    Where the log has slices, what one earned more than another comes before everything else.

    The same arguments make the same bytes. The page holds its figures and asks for nothing from anywhere.

    Args:
        log: n rows, in the order in which they were logged.
        targets: pi(a|x) of each target by its name, each of shape (n, K). The page is about the best of those clearly
            better than what was earned, else about the first; the others are set beside it.
        output: the file to write; its folder is made.
        how: arguments of `evaluate` other than log and target, for everything on the page. DR is always computed.
        settings: what else is worth knowing, such as where the log is from; printed as it is.
        curves: learning curves of runs, for a section of their own.
        segment: what the log is cut by: a feature of the context, or `position`; None: the most used category.
        figures: a folder for every figure as SVG and PNG; None: only inside the page.
        title: of the page.
        pair: names of the slice whose lift it is, and of its baseline.

    Raises:
        ValueError: there is no target, there is no such segment, or `evaluate` refuses its arguments.
    """
    if not targets:
        raise ValueError("a report takes at least one target; got none")
    subject = Subject(log, targets, how or {}, settings or {}, curves, segment, figures is not None, pair)
    with drawing():
        made = _sections(subject)
    page = _template().render(
        title=title,
        lift=subject.lift[0] if subject.lift else None,
        sentence=subject.said(subject.main),
        verdict=subject.shade,
        facts=list(facts(subject)),
        sections=made,
    )
    for picture in [section.picture for section in made if section.picture]:
        if figures is not None:
            picture.write(figures)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    return output


def _sections(of: Subject) -> list[Section]:
    """Every section, in the order of the page."""
    answers = [*([slices] if of.lift else []), values, differences, spread_of_weights, per_arm, per_segment, over_time]
    rest = [model, *([learning] if of.curves else []), ratio, cleaning, all_settings, guide]
    return [make(of) for make in (*answers, *rest)]


def _shown(value: Any) -> Any:
    """What the page is given, names with letters that nobody sees, or that turn the line, as escapes."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
    )
    return environment.get_template(TEMPLATE)
