"""What `/docs` tells of the views."""

from __future__ import annotations

from bandit.serving.api.docs import _asking, _operation, _writing
from bandit.serving.views.answers import SeriesAnswer, SummariesAnswer, SummaryAnswer
from bandit.serving.views.model_answers import (
    CalibrationAnswer,
    EstimatesAnswer,
    PreviewAnswer,
    PreviewBody,
    WeightsAnswer,
)

SERIES = _operation({200: "what was counted"}, SeriesAnswer)
SUMMARY = _operation({200: "how the experiment is doing"}, SummaryAnswer)
SUMMARIES = _asking({200: "how the experiments are doing"}, SummariesAnswer, 422, 503)
ESTIMATES = _operation({200: "what each arm is expected to earn"}, EstimatesAnswer)
WEIGHTS = _operation({200: "what an arm has learned"}, WeightsAnswer)
CALIBRATION = _operation({200: "what was predicted and what came"}, CalibrationAnswer)
PREVIEW = _writing({200: "what would be answered"}, PreviewAnswer, PreviewBody)
