"""The views' bounds: of what time a figure is, what ends with who asked, and what one reader may take from others."""

import sys

import httpx
import pytest
from live import Live, until
from test_views import busy

from bandit.log.records import START, Position
from bandit.replica.series import Bucket, Resolution
from bandit.replica.series_reader import Rows, SeriesReader
from bandit.serving import evaluation
from bandit.serving.views import calibration
from bandit.serving.views.counts import _matured, _minutes, _window


def counted(*times: int) -> list[Bucket]:
    """A bucket of decisions made then."""
    return [Bucket(1, decisions=len(times), began_ms=min(times), decided_ms=max(times))]


def test_a_window_is_no_longer_than_there_have_been_decisions() -> None:
    """A rate is by the time since the first decision, where that is shorter; by ten seconds at least."""
    hour = 3_600_000
    for ago, expected in ((3 * hour, 305), (27_000, 27), (2_000, 10)):
        now = 500_000 * hour + 5_000
        rows = Rows(Position(now, 0), True, {now // 60_000: counted(*[now - 1] * 351)})
        found = _window(rows, {}, now // 60_000 - 5, 60_000, (now - ago, now), {})
        assert (found.seconds, found.per_second) == (expected, pytest.approx(351 / expected))


def test_the_matured_share_is_to_a_minute() -> None:
    """Decisions of the hour that is under way count, too, once their minute is over and their window."""
    hour, minute = 3_600_000, 60_000
    over = 500_000 * hour + 20 * minute + 5
    hours = {over // hour - 1: counted(1, 2), over // hour: counted(*range(6))}
    minutes = {
        over // minute - 1: counted(1, 2, 3),
        over // minute: counted(4, 5),
        over // minute + 1: counted(6),
        over // minute - 30: counted(1),  # of the hour before: it has its own row
    }
    rows: dict[Resolution, Rows] = {
        "hour": Rows(Position(over, 0), True, hours),
        "minute": Rows(Position(over, 0), True, minutes),
    }
    assert _matured(rows, over) == (2 + 3) / 8
    assert list(_minutes(over, over // minute + 61)) == list(range(over // hour * 60, over // minute))
    assert len(_minutes(over, over // minute + 1500)) == 0


def test_a_row_knows_when_its_decisions_began(server: Live) -> None:
    """To the millisecond, in rows as they are read."""
    experiment, _ = busy(server, 5)
    store, replica = server.service.store, server.service.follower.replicas[experiment.name]
    newest = replica.position.ms // 3_600_000
    rows = SeriesReader(store).read(replica, "hour", range(newest - 1, newest + 1))
    began = min(bucket.began_ms for own in rows.buckets.values() for bucket in own)
    assert began == next(each.position.ms for each in store.read(experiment.name, START, 100) if each.tag == b"d")


@pytest.mark.parametrize("what", ["calibration", "evaluation"])
def test_what_takes_long_ends_with_who_asked_for_it(server: Live, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes takes the process with it: the next one need not wait for its time limit."""
    experiment, _ = busy(server, 3)
    module = {"calibration": calibration, "evaluation": evaluation}[what]
    with monkeypatch.context() as patch:
        patch.setattr(module, "COMMAND", (sys.executable, "-c", "import time; time.sleep(1000)"))
        with pytest.raises(httpx.ReadTimeout):
            experiment.client.get(f"{experiment.at}/{what}", timeout=2)
    until(lambda: experiment.client.get(f"{experiment.at}/{what}").status_code == 200, 40)
