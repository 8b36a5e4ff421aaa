"""What docs/client.md shows is executed, in order, against a real server."""

import re
from pathlib import Path
from typing import Any

from live import Live

PAGE = (Path(__file__).parents[3] / "docs/client.md").read_text()


def test_every_program_of_the_page_runs(server: Live, caplog: Any) -> None:
    """And loses nothing on its way."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace("http://127.0.0.1:8080", server.url), names)  # noqa: S102 - our own page
    counts = names["client"].feedback_counts
    assert len(blocks) == 7
    assert (names["waiting"], counts.accepted, counts.refused, counts.dropped) == (0, 4, 0, 0)
    assert names["choice"].logged
    assert [each.arm for each in names["page"].values()] == [names["page"]["offers"].arm, names["page"]["teaser"].arm]
    assert len(names["mailing"]) == 60
    assert "feedback lost" not in caplog.text
