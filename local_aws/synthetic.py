"""Films that nobody was X-rayed for: the tests and the offline demo must not need a patient.

A synthetic film has a thorax, two dark lungs, ribs, a heart shadow and noise; PNEUMONIA adds soft opacities inside the
lungs. Names follow Kaggle's patterns, so that the split by patient is exercised as on the real dataset. Nothing here
says anything about real films: figures obtained on synthetic ones measure the pipeline, not a diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from cxr.labels import CLASSES

SIZE = (400, 320)
"""Width and height in pixels."""


def _ellipse(grid: tuple[np.ndarray, np.ndarray], cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """Soft-edged ellipse in relative coordinates, float [height, width] in 0..1."""
    x, y = grid
    distance = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
    return 1.0 / (1.0 + np.exp(np.minimum(14.0 * (distance - 1.0), 60.0)))


def film(label: str, rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Image.Image:
    """One grey film of class `label` (NORMAL or PNEUMONIA), `size` = (width, height) in pixels, mode L."""
    if label not in CLASSES:
        raise ValueError(f"{label!r} is no class; one of {', '.join(CLASSES)}")
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    tilt = rng.normal(0, 0.03)
    grid = (x + tilt * y, y - tilt * x)

    def sway(scale: float) -> float:
        return float(rng.normal(0, scale))

    body = _ellipse(grid, sway(0.02), 0.1 + sway(0.03), 0.92 + sway(0.03), 1.15)
    lungs = np.maximum(
        _ellipse(grid, -0.42 + sway(0.02), -0.02 + sway(0.03), 0.27 + sway(0.015), 0.58 + sway(0.03)),
        _ellipse(grid, 0.42 + sway(0.02), -0.02 + sway(0.03), 0.26 + sway(0.015), 0.56 + sway(0.03)),
    )
    image = 18 + 165 * body - 105 * lungs
    heart = _ellipse(grid, 0.12 + sway(0.02), 0.28 + sway(0.03), 0.28 + sway(0.02), 0.34 + sway(0.02))
    image += 70 * heart * lungs
    image += 55 * _ellipse(grid, sway(0.01), 0.0, 0.07, 1.1) * body
    ribs = np.clip(np.sin((grid[1] * 9 + np.abs(grid[0]) * 2.2 + sway(0.4)) * np.pi), 0.55, 1) - 0.55
    image += 46 * ribs * body * (np.abs(grid[0]) > 0.1)
    if label == "PNEUMONIA":
        for _ in range(int(rng.integers(2, 5))):
            side = rng.choice((-1.0, 1.0))
            centre = side * rng.uniform(0.3, 0.55), rng.uniform(-0.3, 0.42)
            spot = _ellipse(grid, *centre, rng.uniform(0.16, 0.26), rng.uniform(0.18, 0.3))
            image += rng.uniform(75, 110) * spot * lungs
    image = image * rng.uniform(0.88, 1.1) + sway(5) + rng.normal(0, 4.0, image.shape)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8), "L").filter(ImageFilter.GaussianBlur(0.8))


def photograph(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Image.Image:
    """A colour picture that is no X-ray (a sky, a hill and some balloons), mode RGB."""
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    sky = np.stack([90 + 60 * y, 150 + 40 * y, 235 - 20 * y], axis=-1)
    hill = (y > 0.35 + 0.12 * np.sin(3 * x + rng.uniform(0, 6)))[..., None]
    picture = np.where(hill, np.array([60.0, 140.0, 50.0]) + rng.normal(0, 12, (height, width, 1)), sky)
    for _ in range(5):
        balloon = _ellipse((x, y), rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.2), 0.12, 0.17)[..., None]
        picture = picture * (1 - balloon) + balloon * rng.uniform(20, 255, 3)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8), "RGB")


def _names(label: str, numbers: range, count: int, rng: np.random.Generator) -> list[str]:
    """`count` Kaggle-like file names of `label`; patients are drawn from `numbers`, each has one or two films."""
    names: list[str] = []
    patients = rng.choice(np.asarray(numbers), size=count, replace=False)
    for patient in sorted(patients):
        kind = rng.choice(("bacteria", "virus"))
        for film_number in range(1, int(rng.choice((1, 1, 1, 1, 2))) + 1):
            if label == "PNEUMONIA":
                names.append(f"person{patient}_{kind}_{film_number}.jpeg")
            else:
                names.append(f"{'NORMAL2-' if patient % 3 == 0 else ''}IM-{patient:04d}-{film_number:04d}.jpeg")
    return names[:count]


def write_dataset(
    root: Path,
    train: int = 240,
    test: int = 60,
    seed: int = 0,
    on_film: Callable[[], object] = lambda: None,
    size: tuple[int, int] = SIZE,
) -> None:
    """Write `train` + `test` JPEG films, half of each class, into `root` in Kaggle's layout.

    `on_film` is called once per film; `size`: their width and height in pixels. The same arguments give the same bytes.
    Test patients have numbers of their own.
    """
    rng = np.random.default_rng(seed)
    numbers = {"train": range(1, 50_000), "test": range(50_000, 100_000)}
    for split, count in (("train", train), ("test", test)):
        for label, share in (("NORMAL", count // 2), ("PNEUMONIA", count - count // 2)):
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for name in _names(label, numbers[split], share, rng):
                film(label, rng, size).save(folder / name, "JPEG", quality=88)
                on_film()
