"""What a comparison with the champion comes to, in sentences."""

from __future__ import annotations

from cxr_pipeline.comparison import Margins, of_predictions, worse

from cxr.noninferiority import Outputs

MARGINS = Margins(auroc=-0.01, balanced_accuracy=-0.02)


def bounds(auroc: float, balanced_accuracy: float) -> dict:
    return {
        "delta_auroc": {"value": 0.0, "lower": auroc},
        "delta_balanced_accuracy": {"value": 0.0, "lower": balanced_accuracy},
    }


def test_bounds_above_the_margins_are_no_objection() -> None:
    assert worse(bounds(-0.009, -0.019), MARGINS) == []


def test_a_bound_on_the_margin_is_named_with_its_parameter() -> None:
    (sentence,) = worse(bounds(-0.01, 0.0), MARGINS)
    assert sentence == "AUROC differs by +0.0000 from the champion's and may be as low as -0.0100; margin_auroc = -0.01"
    assert [s.split(" differs")[0] for s in worse(bounds(-1, -1), MARGINS)] == ["AUROC", "balanced accuracy"]


def test_kept_predictions_are_drawn_by_the_patients_of_their_names() -> None:
    """Films of one patient stand or fall together: with one patient of each class nothing varies."""
    films = {
        f"test/{label}/{name}_x_{n}.png": (name == "person2", n / 9)
        for n in range(4)
        for label, name in (("NORMAL", "person1"), ("PNEUMONIA", "person2"))
    }
    champion = Outputs(films, 0.2)
    challenger = Outputs({file: (ill, 1 - p) for file, (ill, p) in films.items()}, 0.2)
    figures = of_predictions(champion, challenger)
    for name in ("delta_auroc", "delta_balanced_accuracy"):
        assert figures[name]["lower"] == figures[name]["value"]
