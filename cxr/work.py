"""How much work the reading of one file may take, counted before it is spent.

Two things cost time: turns of a loop in Python (a segment of a JPEG, a chunk of a PNG, an element, item or fragment of
a DICOM file, a marker of JPEG 2000), and passes of a decoder over pixels (once per scan and component). Both have a
limit that no film comes near, so a file of whatever content takes a bounded time; benchmarks/hostile.py measures it.
What is left costs some nanoseconds a byte, and bytes have a limit of their own (cxr.film.MAX_BYTES).
"""

from __future__ import annotations

from dataclasses import dataclass

from cxr.film import UnreadableImage

MAX_PARTS = 50_000
"""A PNG of 50 MB in chunks of 1 KB has as many; a DICOM header has some hundred. About 2 microseconds each."""
MAX_PASSES = 500_000_000
"""Pixels times scans and components, in units of at most 10 nanoseconds; slower decoders count a pixel several times. A
progressive JPEG of 25 megapixels in colour takes 350 million as encoders write it.
"""


@dataclass
class Work:
    """What one file has cost so far. parts: turns of loops; passes: pixels times scans and components."""

    parts: int = 0
    passes: int = 0

    def take_parts(self, count: int = 1) -> None:
        """Counts `count` more parts. Raises UnreadableImage above MAX_PARTS."""
        self.parts += count
        if self.parts > MAX_PARTS:
            raise UnreadableImage("too_complex", count=self.parts, limit=MAX_PARTS)

    def take_passes(self, count: int) -> None:
        """Counts `count` more pixels to be passed over. Raises UnreadableImage above MAX_PASSES."""
        self.passes += count
        if self.passes > MAX_PASSES:
            raise UnreadableImage("too_complex", count=self.passes, limit=MAX_PASSES)
