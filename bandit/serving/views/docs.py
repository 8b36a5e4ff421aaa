"""What `/docs` tells of the views."""

from __future__ import annotations

from bandit.serving.api.docs import asking, operation, writing
from bandit.serving.views.answers import SeriesAnswer, SummariesAnswer, SummaryAnswer
from bandit.serving.views.model_answers import (
    CalibrationAnswer,
    EstimatesAnswer,
    PreviewAnswer,
    PreviewBody,
    WeightsAnswer,
)

SERIES = operation({200: "what was counted"}, SeriesAnswer)
SUMMARY = operation({200: "how the experiment is doing"}, SummaryAnswer)
SUMMARIES = asking({200: "how the experiments are doing"}, SummariesAnswer, 422, 503)
ESTIMATES = operation({200: "what each arm is expected to earn"}, EstimatesAnswer)
WEIGHTS = operation({200: "what an arm has learned"}, WeightsAnswer)
CALIBRATION = operation({200: "what was predicted and what came"}, CalibrationAnswer)
PREVIEW = writing({200: "what would be answered"}, PreviewAnswer, PreviewBody)
