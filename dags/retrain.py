"""Retrain the pneumonia model, weekly or by hand, and put it into service only if it is shown to be good enough.

* `plan`: checks the dataset by its listing; finds an earlier job with the same data, image and parameters. *If it
  fails:* the message names what is missing; nothing was paid for.
* `train`: one SageMaker job: adopted, reused or started; its log is shown here. *If it fails:* the message ends with
  the job's own reason; clear the task to train again.
* `register`: verifies the bundle and creates a model package, pending approval. *If it fails:* the archive is not
  what bundle.json says; train again with `force`.
* `judge`: holds the test figures against the floors of the form. *If it fails:* the model is rejected in the registry
  with every floor that it misses; the old one serves on.
* `compare`: asks whether it is not inferior to the champion on the same test films. *If it fails:* the same; skipped
  where this very model serves or served.
* `approve`: approves, or waits for a person in the registry. *If it fails:* refused, or nobody decided in time:
  approve there and trigger again.
* `promote`: writes models/current.json by compare-and-swap. *If it fails:* the champion changed five times meanwhile;
  trigger again.
* `smoke_test`: sends golden films through the Lambda. *If it fails:* `roll_back` has restored the previous model;
  read which films differ.
* `announce`: says what serves now.

Every parameter is explained in the form. Figures far from the floors: change the data or the training, not the floors.
The Variable `retrain_schedule` changes the schedule (`none`, a cron expression, `drift`, or `@weekly or drift`).
Full guide: docs/airflow.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task
from cxr_pipeline import plan as planning
from cxr_pipeline import promotion, registration
from cxr_pipeline.approval import ApprovalSensor
from cxr_pipeline.clients import client, promoting_s3
from cxr_pipeline.comparison import Margins
from cxr_pipeline.gate import Floors
from cxr_pipeline.model import Model
from cxr_pipeline.naming import run_key
from cxr_pipeline.outcome import fail, headline, skip, state_of
from cxr_pipeline.promotion import Challenger
from cxr_pipeline.retrain_form import FORM
from cxr_pipeline.schedule import retrain_schedule
from cxr_pipeline.settings import settings
from cxr_pipeline.smoke import PREFIX, SmokeFailed, SmokeTest
from cxr_pipeline.training import TrainingOperator

from cxr.pointer import PointerStore, Seen, of_document


@dag(
    dag_id="retrain",
    doc_md=__doc__,
    schedule=retrain_schedule(),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=FORM,
    default_args={"owner": "imaging", "retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["cxr", "training"],
)
def retrain() -> None:
    """Validate, train, register, judge, compare, approve, promote, smoke-test; roll back on failure."""
    planned: Any = plan()
    trained = TrainingOperator(task_id="train", config=planned["request"], check_interval=planned["check_interval"])
    registered: Any = register(planned, trained.output)
    judged: Any = judge(registered)
    compared: Any = compare(registered)
    approved = ApprovalSensor(task_id="approve", package_arn=registered["package_arn"], pending_since=judged, retries=0)
    promoted: Any = promote(registered, compared)
    tested: Any = smoke_test(registered)
    undone = roll_back(registered, promoted)
    done = announce(registered, promoted, tested)
    judged >> compared >> approved >> promoted >> tested >> [undone, done]


@task
def plan() -> planning.Plan:
    """Check the dataset by its listing and decide which training job makes the model: an earlier one or a new one."""
    context = get_current_context()
    return planning.plan(client("s3"), settings(), context["params"], context["dag_run"])


@task
def register(planned: planning.Plan, trained: Any) -> Model:
    """Unpack and verify the job's bundle, put it beside models/<job>/bundle.json and register it, pending approval."""
    return registration.register(client("s3"), client("sagemaker"), settings(), planned, trained)


@task(retries=0)
def judge(model: Model) -> str:
    """Hold the test figures against the floors; a model that misses one is rejected in the registry, with reasons."""
    return promotion.judge(challenger(model), Floors.from_params(get_current_context()["params"]))


@task(retries=0)
def compare(model: Model) -> str:
    """Compare with the champion on the same test films; skip the rest where this very model serves or served."""
    one = challenger(model)
    pointer = PointerStore(one.s3, settings().models_bucket)
    return promotion.compare(one, pointer, Margins.from_params(get_current_context()["params"]))


@task(retries=0)
def promote(model: Model, compared: str) -> dict[str, Any]:
    """Point models/current.json at the approved model; where the champion changed meanwhile, compare again."""
    context = get_current_context()
    margins, actor = Margins.from_params(context["params"]), promotion.actor_of(context["run_id"])
    seen = promotion.promote(challenger(model), writable_pointer(), margins, actor)
    return {"document": seen.pointer.as_json(), "etag": seen.etag}


@task(retries=0)
def smoke_test(model: Model) -> float:
    """Send golden films through the Lambda; it must answer with the new model and the training job's probabilities."""
    context, names = get_current_context(), settings()
    params, folder = context["params"], f"{PREFIX}{run_key(context['dag_run'])}/"
    function = client("lambda", read_timeout=900, retries={"max_attempts": 0})
    try:
        largest = SmokeTest(client("s3"), function, names, model, folder).run(
            params["smoke_films"], params["smoke_tolerance"]
        )
    except SmokeFailed as failed:
        fail(f"SMOKE TEST FAILED for model {model['version']}: {failed}")
    headline(f"golden films are answered as trained; largest difference {largest:.6f}")
    return largest


@task(trigger_rule="one_failed", retries=5)
def roll_back(model: Model, promoted: dict[str, Any] | None) -> str:
    """Serve the previous model again after a failed smoke test, and reject the promoted one in the registry."""
    context = get_current_context()
    if promoted is None or state_of(context, "smoke_test") != "failed":
        skip("no smoke test of a promotion failed: nothing to undo")
    seen = Seen(of_document(promoted["document"]), promoted["etag"])
    return promotion.roll_back(challenger(model), writable_pointer(), seen, context["run_id"])


@task
def announce(model: Model, promoted: dict[str, Any], largest: float) -> str:
    """Say in one line what serves now."""
    document = promoted["document"]
    line = f"model {model['version']} ({model['job']}) serves as serial {document['serial']}: {document['reason']}"
    headline(line)
    return line


def challenger(model: Model) -> Challenger:
    return Challenger(client("s3"), client("sagemaker"), model)


def writable_pointer() -> PointerStore:
    """The pointer for whoever may move it: the promote role."""
    names = settings()
    return PointerStore(promoting_s3(names.promote_role_arn), names.models_bucket)


retrain()
