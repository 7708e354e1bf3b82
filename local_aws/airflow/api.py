"""Airflow's REST API on this machine, where everybody is an administrator."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from local_aws.server import HOST

DAGS = ("retrain", "classify_backlog", "report", "correct_labels")
HEALTH = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class _Token(httpx.Auth):
    """Fetches a token when there is none, or when the last one has expired."""

    requires_response_body = True

    def __init__(self, base: str) -> None:
        self._url, self._headers = f"{base}/auth/token", {"Authorization": ""}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self._headers)
        if (yield request).status_code == 401:
            answer = yield httpx.Request("GET", self._url)
            self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            request.headers.update(self._headers)
            yield request


class Api:
    """The calls that the local Airflow needs; each raises httpx.HTTPError where the server does not answer well."""

    def __init__(self, port: int) -> None:
        self.base = f"http://{HOST}:{port}"
        self._client = httpx.Client(base_url=f"{self.base}/api/v2/", auth=_Token(self.base), timeout=60)

    def answers(self) -> bool:
        """Whether the API server does."""
        try:
            return self._client.get("version").is_success
        except httpx.HTTPError:
            return False

    def ready(self) -> bool:
        """Whether all components are healthy and all DAGs parsed: a page that is opened earlier would stay empty."""
        try:
            health = self._call("GET", "monitor/health")
            listed = self._call("GET", "dags", params={"limit": 100})["dags"]
        except httpx.HTTPError:
            return False
        return all(health[name]["status"] == "healthy" for name in HEALTH) and {d["dag_id"] for d in listed} >= {*DAGS}

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> None:
        """Start a run."""
        body = {"logical_date": None, "conf": dict(conf or {}), "run_after": datetime.now(UTC).isoformat()}
        self._call("POST", f"dags/{dag_id}/dagRuns", json=body)

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The last 20 runs of a DAG, newest first."""
        return list(
            self._call("GET", f"dags/{dag_id}/dagRuns", params={"order_by": "-run_after", "limit": 20})["dag_runs"]
        )

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        return self._client.request(method, path, **arguments).raise_for_status().json()
