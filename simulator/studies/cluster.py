"""Work spread over a Dask cluster that is there already: `pip install 'bandit-server[cluster]'`.

Dask rather than Ray, measured with two local workers: 143 MB installed against 357, 217 MB of memory against 760, a
start in 2 to 3 s against 6 to 8; pure Python, so it is there for each new Python at once. Ray hands out small tasks
faster (1.4 ms each against 4.5), which does not count where each is a run of seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from threadpoolctl import threadpool_limits

from simulator.progress import Show, silent
from simulator.studies.parallel import Spread, Work

WAIT = "30s"  # for a scheduler to answer


@contextmanager
def cluster(address: str) -> Iterator[Spread]:
    """A way to spread work over the workers of the scheduler at `address`, such as tcp://10.0.0.5:8786.

    Workers need this package at this version. Start them with one thread each (`dask worker --nthreads 1`): a process
    then does one run at a time.

    Raises:
        ImportError: dask's `distributed` is not installed.
        OSError: no scheduler answers there.
    """
    try:
        distributed = import_module("distributed")
    except ImportError as error:
        raise ImportError("a cluster needs dask: pip install 'bandit-server[cluster]'") from error
    with distributed.Client(address, timeout=WAIT) as client:

        def spread(work: Work, common: Any, items: Sequence[Any], show: Show) -> Iterator[tuple[int, Any]]:
            held = client.scatter(common, broadcast=True)
            futures = {client.submit(_call, work, held, item, pure=False): i for i, item in enumerate(items)}
            try:
                for done, future in enumerate(distributed.as_completed(list(futures)), 1):
                    yield futures[future], future.result()
                    show(done)
            finally:
                client.cancel(list(futures))

        yield spread


def _call(work: Work, common: Any, item: Any) -> Any:
    threadpool_limits(1)
    return work(common, item, silent)
