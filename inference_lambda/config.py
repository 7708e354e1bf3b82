"""The environment, read once: a setting that is missing or wrong stops the function with its name, not mid-batch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cxr import pointer as pointers
from cxr.verdict import Verdict

MB_PER_VCPU = 1769
"""Lambda gives one vCPU of credit per 1,769 MB; os.cpu_count() shows more than that."""
HEATMAPS = ("all", "positive", "none")
"""positive: of the urgent films, those that are called PNEUMONIA and not out of distribution."""


@dataclass(frozen=True)
class Config:
    """Settings of one function instance. memory_mb: MB; scratch: the only folder written to; heatmaps: which films get
    a PNG, one of HEATMAPS.
    """

    uploads_bucket: str
    results_bucket: str
    models_bucket: str
    pointer_key: str = pointers.KEY
    memory_mb: int = MB_PER_VCPU
    function_name: str = "local"
    scratch: Path = Path("/tmp/cxr-model")  # nosec B108 # the instance's own /tmp
    heatmaps: str = "positive"

    def __post_init__(self) -> None:
        if self.heatmaps not in HEATMAPS:
            raise ValueError(f"CXR_HEATMAPS is {self.heatmaps!r}, expected one of {', '.join(HEATMAPS)}")

    def draws(self, verdict: Verdict) -> bool:
        """Whether a film with this verdict gets a picture of its heat map beside the grid in its result."""
        return self.heatmaps == "all" or (self.heatmaps == "positive" and verdict.priority == "urgent")

    @property
    def threads(self) -> int:
        """Threads that the memory size pays for."""
        return max(1, self.memory_mb // MB_PER_VCPU)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Config:
        """Raises KeyError, with the variable's name, for a missing bucket, and ValueError for an unknown `heatmaps`."""
        return cls(
            uploads_bucket=environment["CXR_UPLOADS_BUCKET"],
            results_bucket=environment["CXR_RESULTS_BUCKET"],
            models_bucket=environment["CXR_MODELS_BUCKET"],
            pointer_key=environment.get("CXR_POINTER_KEY", cls.pointer_key),
            memory_mb=int(environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", cls.memory_mb)),
            function_name=environment.get("AWS_LAMBDA_FUNCTION_NAME", cls.function_name),
            scratch=Path(environment.get("CXR_SCRATCH", str(cls.scratch))),
            heatmaps=environment.get("CXR_HEATMAPS", cls.heatmaps),
        )
