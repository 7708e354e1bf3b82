"""The pages that a job writes, from templates: HTML is escaped, and a missing value is an error, not an empty cell."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """One page as text."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    env = Environment(  # nosec B701 # HTML is escaped, the model card is Markdown
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(percent=percent, interval=interval, number=number, covered=covered)
    return env


def percent(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def interval(figure: dict[str, Any], share: bool = True) -> str:
    """`93.1 % (91.0 to 94.8)` or `0.951 (0.930 to 0.968)`."""
    if figure["value"] is None:
        return "n/a"
    if share:
        return f"{percent(figure['value'])} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def covered(sets: dict[str, Any]) -> str:
    """How often the conformal sets of a class hold the truth, with its interval."""
    return interval({"value": sets["coverage"], "low": sets["low"], "high": sets["high"]})
