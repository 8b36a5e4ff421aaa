"""The views' bounds: of what time a figure is, what ends with who asked, and what one reader may take from others."""

import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from select import select

import httpx
import pytest
from live import Live, ok, problem, until
from test_views import busy, get

from bandit.errors import Code
from bandit.log.records import START, Position
from bandit.replica.replica import Replica
from bandit.replica.series import Bucket, Resolution
from bandit.replica.series_reader import Rows, SeriesReader
from bandit.serving import evaluation
from bandit.serving.views import calibration, service
from bandit.serving.views.counts import _matured, _minutes, _window
from bandit.serving.views.model_answers import WeightsAnswer


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


def test_who_looks_keeps_no_change_waiting(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many look at models: beyond a bound they are refused at once, who has gone is not worked for, and
    changes, look-ups and metrics go on meanwhile.
    """
    (experiment, decided), free, asked = busy(server, 3), threading.Event(), list[str]()
    looked = service.weights

    def slow(replica: Replica, arm: str, limit: int, cursor: int) -> WeightsAnswer:
        asked.append(arm)
        assert free.wait(60)
        return looked(replica, arm, limit, cursor)

    monkeypatch.setattr(service, "weights", slow)
    most = service.LOOKERS[1]
    path = f"{experiment.at}/weights?arm="
    try:
        with ThreadPoolExecutor(2 * most) as clients:
            gone = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(most + 1)]
            for each in gone:
                each.sendall(f"GET {path}b HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert select(gone, [], [], 20)[0]  # one was refused: all places are taken
            problem(experiment.client.get(f"{path}a"), Code.OVERLOADED)
            for each in gone:
                each.close()
            # one of those is being worked for; all others have left their places
            answers = [clients.submit(httpx.get, f"{server.url}{path}c", timeout=60) for _ in range(most)]
            ok(experiment.patch({"policy": {"alpha": 0.5}}))
            ok(experiment.client.get(f"{experiment.at}/decisions/{decided[0]['decision_id']}"))
            assert experiment.client.get("/metrics").status_code == 200
            assert get(experiment, "summary")["windows"]["5m"]["decisions"] == 3
            until(lambda: server.service.experiments and sum(each.running() for each in answers) == most)
            free.set()
            assert {each.result().status_code for each in answers} <= {200, 503}
            assert asked.count("b") == 1
            assert asked.count("c") >= most - 1
    finally:
        free.set()
