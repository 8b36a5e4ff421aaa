"""A cluster: two workers of a local one give the bits that one process gives."""

from importlib.util import find_spec

import msgspec
import pytest
from test_sweep import noise

from simulator.environments.synthetic import Synthetic
from simulator.studies.cluster import cluster
from simulator.studies.parallel import serial
from simulator.studies.run import run
from simulator.studies.sweep import sweep_log

SMALL = Synthetic("small", arms=4, features=3, rounds=400)
needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="dask's distributed is not installed")


@needs_dask
def test_a_cluster_gives_the_same_bits_as_one_process() -> None:
    """Rows, curves and a sweep over a log, spread over two worker processes."""
    from distributed import LocalCluster

    one = run(SMALL, ["linucb", "vw:bag=2"], seeds=3, spread=serial)
    tried = sweep_log(noise(800), "linucb", {"alpha": [0.5, 1.0]}, spread=serial)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        cluster(local.scheduler_address) as spread,
    ):
        assert msgspec.json.encode(run(SMALL, ["linucb", "vw:bag=2"], seeds=3, spread=spread)) == msgspec.json.encode(
            one
        )
        assert sweep_log(noise(800), "linucb", {"alpha": [0.5, 1.0]}, spread=spread) == tried


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra's name is in the message."""
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ImportError, match=r"bandit-server\[cluster\]"), cluster("tcp://127.0.0.1:1"):
        pass
