"""All settings in one place, each with its default and bounds, and all of them checked before the first call to AWS.

A setting that a template takes as a parameter has the parameter's name in snake case (`memory_size` -> `MemorySize`).
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.errors import Fault

FILE = Path("infra.toml")
# What CloudWatch Logs accepts.
LOG_RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
QUEUE_RETENTION = 345_600  # seconds, as in base.yaml
VISIBILITY_FACTOR = 6  # AWS: a queue's visibility timeout is at least six times the timeout of the function behind it


class ConfigError(Fault):
    """One or more settings are wrong; the message lists all of them."""


def _setting(
    default: Any,
    text: str,
    *,
    between: tuple[float, float] | None = None,
    one_of: tuple[Any, ...] = (),
    pattern: str = "",
    stack: str = "",
) -> Any:
    bounds = {"between": between, "one_of": one_of, "pattern": pattern}
    return field(default=default, metadata={"text": text, "stack": stack, **bounds})


_INSTANCES = r"ml\.[a-z0-9-]+\.[a-z0-9*]+(,ml\.[a-z0-9-]+\.[a-z0-9*]+)*"
_IMAGE = r"|[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})"
_PRINCIPAL = r"|arn:[a-z-]+:iam::[0-9]{12}:(role|user)/.+"


@dataclass(frozen=True)
class Config:
    """Settings of one deployment; `python -m infra config` writes them as a commented `infra.toml`."""

    project: str = _setting(
        "cxr",
        "Prefix of every name: 2 to 16 lower-case letters, digits and hyphens.",
        pattern=r"[a-z][a-z0-9-]{0,14}[a-z0-9]",
        stack="both",
    )
    region: str = _setting(
        "", "AWS region; empty takes the profile's or AWS_DEFAULT_REGION.", pattern=r"|[a-z]{2}(-[a-z]+)+-[0-9]"
    )
    profile: str = _setting("", "Profile of ~/.aws/config; empty takes the default credentials.")
    endpoint_url: str = _setting(
        "", "Another endpoint, for the local AWS; empty for the real one.", pattern=r"|https?://[^\s]+"
    )

    uploads_expiration_days: int = _setting(
        365, "Uploaded films are deleted after so many days; 0 keeps them.", between=(0, 36500), stack="base"
    )
    results_expiration_days: int = _setting(
        365, "Results and heat maps are deleted after so many days; 0 keeps them.", between=(0, 36500), stack="base"
    )
    noncurrent_days: int = _setting(
        90,
        "Overwritten or deleted versions of films, results and data sets stay so long.",
        between=(1, 36500),
        stack="base",
    )
    access_log_days: int = _setting(
        365, "Access logs of the buckets stay for so many days.", between=(1, 36500), stack="base"
    )
    log_retention_days: int = _setting(
        365, "Days that the function's log is kept.", one_of=LOG_RETENTION_DAYS, stack="base"
    )
    visibility_timeout: int = _setting(
        720,
        "Seconds until an unacknowledged message comes again; at least 6 x function_timeout.",
        between=(1, 43200),
        stack="base",
    )
    max_receive_count: int = _setting(
        5, "Deliveries before a message moves to its dead-letter queue.", between=(1, 1000), stack="base"
    )
    alarm_email: str = _setting(
        "", "Address that receives every alarm; empty for none.", pattern=r"|[^@\s]+@[^@\s]+", stack="base"
    )
    airflow_principal_arn: str = _setting(
        "",
        "Role or user that Airflow runs under and that may assume the Airflow role; empty lets whoever's own policy in "
        "this account allows it.",
        pattern=_PRINCIPAL,
        stack="base",
    )
    training_instances: str = _setting(
        "ml.m5.*,ml.c5.*,ml.g4dn.*,ml.g5.*,ml.g6.*",
        "Instance types that Airflow may train on, with commas between; * stands for any size.",
        pattern=_INSTANCES,
        stack="base",
    )
    training_network: str = _setting(
        "open",
        "Whether a training job may have a network (weights = imagenet needs it), or must run isolated.",
        one_of=("open", "isolated"),
        stack="base",
    )
    model_approval: str = _setting(
        "automatic",
        "Whether Airflow may approve models itself, or only people may.",
        one_of=("automatic", "manual"),
        stack="base",
    )
    operator_principal_arn: str = _setting(
        "", "Role or user of the people who may promote and roll back by hand.", pattern=_PRINCIPAL, stack="base"
    )

    memory_size: int = _setting(
        1769, "Memory of the function in MB; 1769 buys one whole virtual CPU.", between=(512, 10240), stack="service"
    )
    function_timeout: int = _setting(120, "Seconds that one invocation may take.", between=(10, 900), stack="service")
    batch_size: int = _setting(10, "Uploads for one invocation.", between=(1, 10), stack="service")
    batching_window: int = _setting(1, "Seconds that an upload waits for company.", between=(0, 300), stack="service")
    uploads_concurrency: int = _setting(
        50, "Invocations at a time for new uploads.", between=(2, 1000), stack="service"
    )
    backlog_concurrency: int = _setting(
        40, "Invocations at a time for the backlog.", between=(2, 1000), stack="service"
    )
    heatmaps: str = _setting(
        "positive",
        "Films that get a picture of their heat map beside the grid in the result; positive: the urgent ones.",
        one_of=("all", "positive", "none"),
        stack="service",
    )
    direct_concurrency: int = _setting(10, "Invocations at a time by Airflow itself.", between=(0, 1000))
    max_upload_age_seconds: int = _setting(
        900, "The oldest upload may wait so long before the alarm.", between=(60, 1209600), stack="service"
    )
    max_backlog_age_seconds: int = _setting(
        86400, "The oldest backlog message may wait so long before the alarm.", between=(60, 1209600), stack="service"
    )
    max_unreadable_share: float = _setting(
        0.2, "Share of unreadable films in 15 minutes that raises the alarm.", between=(0.0, 1.0), stack="service"
    )

    inference_image: str = _setting(
        "",
        "Image of the function, with digest or tag; empty takes the one that was built from these sources.",
        pattern=_IMAGE,
    )
    training_image: str = _setting(
        "",
        "Image of the training job, with digest or tag; empty takes the one that was built from these sources.",
        pattern=_IMAGE,
    )

    def __post_init__(self) -> None:
        faults = [f for f in (_fault(f, getattr(self, f.name)) for f in dataclasses.fields(self)) if f]
        if not faults:
            faults = list(self._contradictions())
        if faults:
            raise ConfigError("The configuration cannot be deployed:\n" + "\n".join(f"  - {f}" for f in faults))

    def _contradictions(self) -> list[str]:
        found = []
        least = VISIBILITY_FACTOR * self.function_timeout
        if self.visibility_timeout < least:
            found.append(
                f"visibility_timeout = {self.visibility_timeout} is below {least}, six times function_timeout = "
                f"{self.function_timeout}; raise the one or lower the other, or films are classified twice"
            )
        if self.max_receive_count * self.visibility_timeout >= QUEUE_RETENTION:
            found.append(
                f"max_receive_count = {self.max_receive_count} deliveries, visibility_timeout = "
                f"{self.visibility_timeout} s apart, take longer than the {QUEUE_RETENTION // 86400} days that a queue "
                "keeps a message, so it would expire instead of becoming a dead letter; lower one of them"
            )
        keeps = self.results_expiration_days
        if keeps and (not self.uploads_expiration_days or keeps < self.uploads_expiration_days):
            found.append(
                f"results_expiration_days = {keeps} deletes results before their uploads (uploads_expiration_days = "
                f"{self.uploads_expiration_days}), so the backlog would classify them again; give the results "
                "at least the uploads' days, or 0"
            )
        return found

    @property
    def reserved_concurrency(self) -> int:
        """Concurrency that the function needs for itself: both event sources and the direct calls."""
        return self.uploads_concurrency + self.backlog_concurrency + self.direct_concurrency

    def parameters(self, stack: str) -> dict[str, str]:
        """The template parameters of `base` or `service` that are settings."""
        names = [f.name for f in dataclasses.fields(self) if f.metadata["stack"] in (stack, "both")]
        values = {pascal(name): str(getattr(self, name)) for name in names}
        if stack == "service":
            values["ReservedConcurrency"] = str(self.reserved_concurrency)
        return values


def pascal(name: str) -> str:
    """`memory_size` -> `MemorySize`."""
    return "".join(word.capitalize() for word in name.split("_"))


def load(path: Path | None = None, **overrides: Any) -> Config:
    """Settings from a TOML file (`infra.toml` here, if there is one), then `overrides` that are not None.

    Raises:
        ConfigError: the file is missing, is not TOML, names an unknown setting, or a value is out of bounds.
    """
    values: dict[str, Any] = {}
    if path is not None and not path.is_file():
        raise ConfigError(f"{path}: no such file; write one with `python -m infra config --output {path}`")
    if path is not None or FILE.is_file():
        path = path or FILE
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
    values |= {name: value for name, value in overrides.items() if value is not None}
    known = [f.name for f in dataclasses.fields(Config)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(
            f"{path or 'configuration'}: no setting is called {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return Config(**values)


def as_toml(config: Config) -> str:
    """The settings as a commented TOML file."""
    lines = ["# Settings of the deployment; `python -m infra` reads this file as infra.toml."]
    for f in dataclasses.fields(config):
        lines += [
            "",
            f"# {f.metadata['text']}{_bounds(f.metadata)} Default: {json.dumps(f.default)}.",
            f"{f.name} = {json.dumps(getattr(config, f.name), ensure_ascii=False)}",
        ]
    return "\n".join(lines) + "\n"


def write(config: Config, path: Path) -> None:
    """Writes the settings as a commented TOML file where there is none yet.

    Raises:
        ConfigError: there is a file already, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(as_toml(config))
    except FileExistsError as error:
        raise ConfigError(f"{path} exists and stays as it is; name another file, or move that one away") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); name a file in a folder of yours") from error


def _bounds(metadata: Any) -> str:
    if metadata["one_of"]:
        return f" One of {', '.join(map(str, metadata['one_of']))}."
    if metadata["between"]:
        return " From {} to {}.".format(*metadata["between"])
    return ""


def _fault(setting: dataclasses.Field[Any], value: Any) -> str | None:
    name, rule, expected = setting.name, setting.metadata, type(setting.default)
    if isinstance(value, bool) or not isinstance(value, (int, float) if expected is float else expected):
        return f"{name} = {value!r} is not {_KINDS[expected]}"
    if rule["pattern"] and not re.fullmatch(rule["pattern"], str(value)):
        return f"{name} = {value!r} does not fit: {rule['text']} (pattern {rule['pattern']})"
    if rule["between"] and not rule["between"][0] <= value <= rule["between"][1]:
        return "{} = {} is outside {} to {}".format(name, value, *rule["between"])
    if rule["one_of"] and value not in rule["one_of"]:
        return f"{name} = {value} is none of {', '.join(map(str, rule['one_of']))}"
    return None


_KINDS = {str: "a text", int: "a whole number", float: "a number"}
