"""The Open Bandit Dataset, full or its small sample: a folder with item_context.csv and one other CSV file.

Arms are the items of item_context, by number; the context is the user's four hashed categories; positions 1 to 3 become
0 to 2. The uniform policy's propensity is exactly 1 / K, so its probabilities are all known.

Saito, Aihara, Matsutani, Narita (2020), https://arxiv.org/abs/2008.07146
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from simulator.logs.contexts import LogError
from simulator.logs.loaders.csv import read as read_csv
from simulator.logs.loaders.csv_blocks import whole
from simulator.logs.loaders.csv_text import form_of
from simulator.logs.table import Table

ITEMS = "item_context"
USER = "user_feature_"


def read(path: Path, *, learning: bool = False) -> Table:
    """A folder of the data set as a table.

    Args:
        path: the folder of one logging policy and campaign, such as `random/men`.
        learning: whether the logging policy learned while it logged; those of the data set did not.

    Raises:
        LogError: the folder has not the two files, or they have other columns.
    """
    items, log = _files(path)
    return read_csv(
        log,
        arms=_arms(items),
        learning=learning,
        arm="item_id",
        reward="click",
        propensity="propensity_score",
        position="position",
        time="timestamp",
        context=[name for name in _names(log) if name.startswith(USER)],
        first_position=1,
        delimiter=",",
        decimal=".",
    )


def _files(folder: Path) -> tuple[Path, Path]:
    """(the items' file, the log)."""
    files = sorted(path for path in folder.glob("*") if ".csv" in path.suffixes)
    items = [path for path in files if path.name.startswith(ITEMS)]
    logs = [path for path in files if path not in items]
    if len(items) != 1 or len(logs) != 1:
        got = [path.name for path in files]
        raise LogError(f"{folder}: expected {ITEMS}.csv and one other CSV file (.gz or not), got {got}")
    return items[0], logs[0]


def _names(path: Path) -> list[str]:
    return form_of(path, ",", ".").names


def _arms(path: Path) -> list[str]:
    """The items' ids."""
    form = form_of(path, ",", ".")
    if "item_id" not in form.names:
        raise LogError(f"{path.name}: expected a column 'item_id', got {form.names}")
    items = whole(path, form, columns=["item_id"], types={"item_id": pa.string()})
    ids: list[str] = items.column("item_id").to_pylist()
    return ids
