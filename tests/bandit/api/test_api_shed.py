"""Past capacity, over HTTP: who is refused gets a whole answer, keeps the connection, and is counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import PropertyMock, patch

import httpx
from live import DOCUMENT, Live, problem, serving, until, valkey

from bandit.access.keys import new_text
from bandit.errors import Code
from bandit.serving.batcher import Batcher

BODY = b'{"context":{"age":1,"country":"us"}}'
PATH = "/v1/experiments/home/recommendations"


@contextmanager
def crowded() -> Iterator[None]:
    """Every queue is too long."""
    with patch.object(Batcher, "crowded", new_callable=PropertyMock, return_value=True):
        yield


def counted(server: Live, metric: str) -> float:
    """What all numbers of a metric come to."""
    return sum(cell[0] for cell in server.service.counters.snapshot()[metric].values())


def test_who_is_refused_is_told_when_to_come_again_and_is_served_then() -> None:
    """On one connection, by a head that the server has seen before: refused before anything else is done."""
    with valkey() as url, serving(url) as server, httpx.Client(base_url=server.url) as client:
        client.put("/v1/experiments/home", json=DOCUMENT).raise_for_status()
        assert [client.post(PATH, content=BODY).status_code for _ in range(2)] == [200, 200]
        with crowded():
            refused = [client.post(PATH, content=BODY) for _ in range(3)]
        served = client.post(PATH, content=BODY)
        for each in refused:
            problem(each, Code.OVERLOADED)
            assert int(each.headers["retry-after"]) >= 1
        assert served.status_code == 200
        assert len({each.headers["x-request-id"] for each in [*refused, served]}) == 4
        assert (counted(server, "bandit_sheds_total"), counted(server, "bandit_problems_total")) == (3, 3)
        assert server.service.counters.snapshot()["bandit_http_requests_total"][
            "/v1/experiments/{e}/recommendations", "POST", "503"
        ] == [3]


def test_only_who_may_ask_hears_of_it() -> None:
    """The gate is asked first: who has no key learns nothing of the load."""
    admin = new_text()
    with valkey() as url, serving(url, auth="on", admin_key=admin) as server:
        mine = {"x-api-key": admin}
        until(lambda: server.client.get("/v1/whoami", headers=mine).status_code == 200)
        server.client.put("/v1/experiments/home", json=DOCUMENT, headers=mine).raise_for_status()
        for _ in range(2):
            assert server.client.post(PATH, content=BODY, headers=mine).status_code == 200
            problem(server.client.post(PATH, content=BODY), Code.UNAUTHENTICATED)
        with crowded():
            for _ in range(2):
                problem(server.client.post(PATH, content=BODY, headers=mine), Code.OVERLOADED)
                problem(server.client.post(PATH, content=BODY), Code.UNAUTHENTICATED)
