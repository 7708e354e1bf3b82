"""What a DAG run makes is named by the run: the same on every retry, readable, within SageMaker's alphabet."""

from __future__ import annotations

import hashlib
from typing import Any


def run_key(dag_run: Any) -> str:
    """Name a DAG run within S3 keys and job names: its time and six hex digits of its id.

    API- and asset-triggered runs have no logical date; ``run_after`` is always there.
    """
    return f"{dag_run.run_after:%Y%m%d-%H%M%S}-{hashlib.sha256(dag_run.run_id.encode()).hexdigest()[:6]}"


def job_name(project: str, dag_run: Any, fingerprint: str) -> str:
    """Name the training job of a DAG run: another one where data or parameters changed before the run was cleared.

    The roles of ``project`` may touch jobs of this shape alone (infra/base.yaml).
    """
    return f"{project}-{run_key(dag_run)}-{fingerprint[:8]}"
