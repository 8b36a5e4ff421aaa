"""What the operations of the views do: the store is read, and models are looked at, in threads."""

from __future__ import annotations

from msgspec import UNSET

from bandit.access.ring import GRANT
from bandit.errors import Problem
from bandit.replica.replica import Replica
from bandit.replica.series import Resolution
from bandit.replica.series_reader import SeriesReader
from bandit.serving.service import Service
from bandit.serving.views.answers import SeriesAnswer, SummariesAnswer, SummaryAnswer
from bandit.serving.views.calibration import Asked, Calibrator
from bandit.serving.views.counts import series, summary
from bandit.serving.views.model_answers import CalibrationAnswer, EstimatesAnswer, PreviewAnswer, WeightsAnswer
from bandit.serving.views.models import estimates, weights
from bandit.serving.views.pool import Pool
from bandit.serving.views.preview import preview

READERS = 2, 48  # threads that read the store for series and summaries, and how many may wait for them
LOOKERS = 1, 8  # those that look at models, which decisions wait for at times


class Views:
    """The views of one server."""

    def __init__(self, service: Service) -> None:
        self.service, self.reader = service, SeriesReader(service.store)
        self._readers, self._lookers = Pool("views", *READERS), Pool("models", *LOOKERS)
        self._calibrator = Calibrator(service.settings.redis_url or "")

    async def series(self, name: str, resolution: Resolution, since: str, until: str) -> SeriesAnswer:
        """What was counted of an experiment."""
        replica = await self.service.experiments.replica(name)
        store = self.service.store
        found: SeriesAnswer = await self.service.experiments.call(
            series, store, self.reader, replica, resolution, since, until, run=self._readers.run
        )
        return found

    async def summary(self, name: str) -> SummaryAnswer:
        """How an experiment is doing."""
        replica = await self.service.experiments.replica(name)
        return await self._summary(replica, whole=True)

    async def summaries(self, limit: int, cursor: str) -> SummariesAnswer:
        """How the experiments that are served here are doing, by name."""
        touches = GRANT.get().may_touch
        replicas = [each for each in self.service.experiments.served() if each.name > cursor and touches(each.name)]
        found = []
        for replica in replicas[:limit]:
            try:
                found.append(await self._summary(replica, whole=False))
            except Problem:
                if replica.model is not None:  # else it was deleted, or failed, meanwhile
                    raise
        return SummariesAnswer(found, replicas[limit - 1].name if len(replicas) > limit else UNSET)

    async def _summary(self, replica: Replica, *, whole: bool) -> SummaryAnswer:
        def work() -> SummaryAnswer:
            return summary(self.service.store, self.reader, replica, whole=whole)

        found: SummaryAnswer = await self.service.experiments.call(work, run=self._readers.run)
        return found

    async def estimates(self, name: str, feature: str, limit: int, cursor: int) -> EstimatesAnswer:
        """What each arm is expected to earn, by segment."""
        replica = await self.service.experiments.replica(name)
        found: EstimatesAnswer = await self.service.experiments.call(
            estimates, self.service.store, replica, feature, limit, cursor, run=self._lookers.run
        )
        return found

    async def weights(self, name: str, arm: str, limit: int, cursor: int) -> WeightsAnswer:
        """What an arm has learned, column by column."""
        return await self._lookers.run(weights, await self.service.experiments.replica(name), arm, limit, cursor)

    async def calibration(self, name: str, bins: int, rows: int) -> CalibrationAnswer:
        """What was predicted beside what came."""
        await self.service.experiments.replica(name)
        return await self._calibrator.calibrate(Asked(name, bins, rows))

    async def preview(self, name: str, data: bytes) -> PreviewAnswer:
        """What a context would be answered."""
        replica, secret = await self.service.experiments.replica(name), await self.service.secret()
        return await self._lookers.run(preview, replica, data, secret)
