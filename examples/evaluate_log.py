"""What would other policies have earned on your log? Reads a CSV of decisions, and values three targets on it.

    python examples/evaluate_log.py your.csv

Without a file it writes one: three banners of which two are better for one half of the visitors each, drawn with logged
propensities.
"""

import csv
import random
import sys
import tempfile
from pathlib import Path

from simulator import evaluate
from simulator.logs.loaders import load
from simulator.policies.targets import target

RATES = {"discount": (0.05, 0.30), "bundle": (0.15, 0.15), "news": (0.25, 0.05)}  # clicks of new, returning visitors
TARGETS = ("uniform", "fixed:bundle", "linucb:alpha=0.5")


def made_up(path: Path, rows: int = 12_000) -> Path:
    """A log of a policy that shows the discount to half of the visitors."""
    rng = random.Random(7)  # noqa: S311 - made-up visitors
    shares = {"discount": 0.5, "bundle": 0.25, "news": 0.25}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["banner", "clicked", "propensity", "returning"])
        for _ in range(rows):
            (banner,) = rng.choices(list(shares), list(shares.values()))
            returning = rng.random() < 0.5
            writer.writerow([banner, int(rng.random() < RATES[banner][returning]), shares[banner], int(returning)])
    return path


def main(path: Path) -> None:
    """A line for each target: its value by doubly robust estimation, and what of it can be believed."""
    log = load(path, "csv", arm="banner", reward="clicked", propensity="propensity")
    print(f"{len(log):,} decisions between {', '.join(log.arms)} earned {log.reward.mean():.4f} each")
    for name in TARGETS:
        (row,) = evaluate(log, target(log, name), estimators=["dr"])
        ends = "no interval" if row.low is None else f"{row.low:.4f} to {row.high:.4f}"
        print(f"{name:18} {row.value:.4f}  {ends:16}  {row.verdict}  {row.note}".rstrip())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else made_up(Path(folder, "log.csv")))
