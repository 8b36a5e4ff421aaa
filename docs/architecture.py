"""Draws docs/architecture.svg: `python docs/architecture.py` writes it anew, the same bytes each time."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 1120, 800
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
PROCESS, THREAD, DATA, ROOM = "#eef3fb", "#ffffff", "#fff6e3", "#eef7ee"
INK, DECISION, CLICK = "#1f2a37", "#1d5fbf", "#b3471d"
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img"
     font-family="{font}" font-size="13" fill="{ink}">
<title>Processes, threads and rooms of the server, and the way of a decision and of a click</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="{ink}"/></marker></defs>
<rect width="{w}" height="{h}" fill="#ffffff"/>"""


def text(x: float, y: float, words: str, *, bold: bool = False, middle: bool = False) -> str:
    """A line of text whose baseline begins (or has its middle) at x, y."""
    weight = ' font-weight="600"' if bold else ""
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text x="{x}" y="{y}"{weight}{anchor}>{escape(words)}</text>'


def box(x: float, y: float, w: float, h: float, title: str, lines: Sequence[str] = (), fill: str = THREAD) -> str:
    """A box with a title and lines under it."""
    rect = f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="#8a97a8"/>'
    words = [text(x + 10, y + 20, title, bold=True), *(text(x + 10, y + 40 + 18 * i, s) for i, s in enumerate(lines))]
    return "\n".join([rect, *words])


def arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    """A line through these points, with a tip at its end."""
    path = " ".join(f"{x},{y}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{INK}"{dash} marker-end="url(#tip)"/>'


def step(label: str, x: float, y: float, colour: str) -> str:
    """A numbered disc: figures are of a decision, letters of a click."""
    disc = f'<circle cx="{x}" cy="{y}" r="11" fill="{colour}"/>'
    return f'{disc}<text x="{x}" y="{y + 4.5}" fill="#ffffff" font-weight="600" text-anchor="middle">{label}</text>'


def chain(x: float, y: float, names: Sequence[str], width: float) -> str:
    """Rooms in a row; each may import those to its left."""
    parts = []
    for i, name in enumerate(names):
        at = x + i * (width + 26)
        parts.append(f'<rect x="{at}" y="{y}" width="{width}" height="30" rx="6" fill="{ROOM}" stroke="#8a97a8"/>')
        parts.append(text(at + width / 2, y + 20, name, middle=True))
        if i:
            parts.append(arrow((at, y + 15), (at - 26, y + 15)))
    return "\n".join(parts)


def drawing() -> str:
    """The whole picture."""
    parts = [
        HEAD.format(w=WIDTH, h=HEIGHT, font=FONT, ink=INK),
        box(20, 20, 210, 90, "site", ["asks for an arm,", "reports clicks (HTTP)"], DATA),
        box(20, 190, 210, 150, "supervisor (one process)", [
            "locks the data directory,", "binds the port, starts the", "store, hands the socket",
            "to the workers, restarts", "whatever dies",
        ], PROCESS),
        box(290, 20, 560, 370, "worker (N processes, all alike)", (), PROCESS),
        box(310, 55, 250, 160, "event loop", [
            "HTTP: read, answer", "for each experiment a batcher:", "encode, score, draw, pack,",
            "one append under way, or two", "all appends: one connection",
        ]),
        box(310, 265, 250, 100, "follower thread", [
            "read, fold, refresh;", "elected: checkpoints, trim", "new and deleted experiments",
        ]),
        box(610, 55, 220, 100, "model (memory)", [
            "sums: whole numbers (int64)", "scoring data: float32 if large;", "float64 decides",
        ], DATA),
        box(610, 170, 220, 56, "beats thread", ["renews and takes leases"]),
        box(610, 236, 220, 56, "watcher thread", ["wakes the follower"]),
        box(610, 302, 220, 75, "life thread", ["ends the worker when its", "pipe from the parent ends"]),
        box(900, 55, 200, 130, "evaluation child", [
            "reads the newest decisions,", "values targets on them,", "answers and ends;", "one for each worker",
        ], PROCESS),
        box(20, 460, 1080, 150, "store: Valkey or Redis, a child of the supervisor or one that runs elsewhere",
            (), PROCESS),
        box(40, 495, 230, 95, "log (a stream)", [
            "decisions, feedback,", "activations, changes;", "the truth, in order",
        ], DATA),
        box(290, 495, 270, 95, "for deduplication", [
            "producers' last numbers, callers'", "ids, credits of a decision,", "users' decisions and events",
        ], DATA),
        box(580, 495, 245, 95, "sums, base, lease", [
            "checkpoints: a row an arm;", "what was trimmed;", "who writes them",
        ], DATA),
        box(845, 495, 235, 95, "config, names, models", [
            "documents and schema;", "memory reserved", "for models",
        ], DATA),
        arrow((230, 50), (310, 80)), arrow((310, 105), (230, 90)),
        step("1", 262, 48, DECISION), step("A", 285, 56, CLICK),
        step("5", 250, 114, DECISION), step("D", 275, 116, CLICK),
        arrow((610, 105), (560, 105)), step("3", 585, 90, DECISION),
        step("2", 545, 120, DECISION), step("B", 545, 145, CLICK),
        arrow((310, 200), (280, 200), (280, 460)),
        step("4", 280, 412, DECISION), step("C", 280, 437, CLICK),
        arrow((370, 460), (370, 365)), step("6", 370, 412, DECISION), step("E", 370, 437, CLICK),
        arrow((560, 300), (590, 300), (590, 140), (610, 140)),
        step("7", 590, 235, DECISION), step("F", 590, 262, CLICK),
        arrow((470, 365), (470, 460)), text(478, 437, "checkpoints"),
        arrow((830, 198), (866, 198), (866, 460)), text(874, 437, "leases"),
        arrow((230, 240), (290, 240), dashed=True), text(235, 232, "starts"),
        arrow((125, 340), (125, 460), dashed=True), text(133, 405, "starts"),
        arrow((850, 100), (900, 100), dashed=True), text(856, 92, "starts"),
        arrow((1000, 460), (1000, 185)), text(1008, 437, "reads"),
        step("1", 40, 640, DECISION), text(60, 645, "to 7: a decision"), step("A", 190, 640, CLICK),
        text(210, 645, "to F: a click"), text(320, 645, "dashed: starts a process"),
        text(20, 690, "rooms of bandit; a room imports only from those to its left", bold=True),
        chain(20, 700, ["core", "log", "store", "replica", "serving", "process", "commands"], 96),
        text(20, 752, "rooms of simulator, which imports bandit; only the demo imports it", bold=True),
        chain(20, 762, ["logs", "ope", "environments", "policies", "studies", "reporting", "cli"], 96),
        text(870, 720, "client stands alone"),
        "</svg>\n",
    ]  # fmt: skip
    return "\n".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "architecture.svg").write_text(drawing())
