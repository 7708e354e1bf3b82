"""model_card.md: who may use the model for what, and what is known against it.

Rule: the caveats travel with the numbers, in the same file, from the same metrics.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training_job.results import Results


def render(results: Results, metrics: dict[str, Any]) -> str:
    from training_job.report import environment, facts

    return environment().get_template("model_card.md").render(facts=facts(results), metrics=metrics)
