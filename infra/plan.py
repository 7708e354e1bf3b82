"""What a deployment would create, read off the templates alone: no credentials, no call."""

from __future__ import annotations

from infra import stacks, template
from infra.config import Config
from infra.template import Place, Rendered


def rendered(config: Config, place: Place | None = None) -> tuple[Rendered, Rendered]:
    """The base and the service stack with the configuration's parameters."""
    place = place or Place(region=config.region or "<region>")
    base = Rendered(template.load(template.BASE), config.parameters("base"), place)
    parameters = config.parameters("service") | {name: base.outputs[name] for name in stacks.FROM_BASE}
    for kind, configured in (("Inference", config.inference_image), ("Training", config.training_image)):
        parameters[f"{kind}ImageUri"] = (
            configured or f"{base.outputs[f'{kind}RepositoryUri']}@<digest of these sources>"
        )
    return base, Rendered(template.load(template.SERVICE), parameters, place)


def text(config: Config) -> str:
    """The plan for people: for each stack its resources by type and name, and its parameters."""
    lines = []
    for name, stack in zip(stacks.names(config), rendered(config), strict=True):
        lines.append(f"Would create or update stack {name} ({len(stack.resources)} resources):")
        for logical, resource in stack.resources.items():
            lines.append(f"  {resource['Type'].removeprefix('AWS::'):32} {logical:28} {stack.name(logical)}")
        lines.append("  with")
        lines += [f"    {key} = {value}" for key, value in stack.parameters.items()]
        lines.append("")
    return "\n".join(lines).rstrip()
