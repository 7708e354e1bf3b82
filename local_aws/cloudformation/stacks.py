"""CloudFormation that applies what a template says, or fails the stack and says why.

moto skips resource types and properties that it does not know and still reports CREATE_COMPLETE. Here an unknown
type is refused, as by AWS; the types of `types.py` are added; and for types that moto knows in part
the rest of their properties is applied afterwards, through the services' own APIs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Event, Stack

from local_aws.cloudformation.resource_type import ResourceFailed, Type
from local_aws.cloudformation.types import TYPES
from local_aws.patches import Patches

log = logging.getLogger(__name__)
CREATE = (
    "self name template parameters notification_arns tags role_arn enable_termination_protection timeout_in_mins "
    "stack_policy_body"
)
UPDATE = "self name template role_arn parameters tags"
Client = Callable[[str], Any]


def install(patches: Patches, client: Client) -> None:
    """Take the place of moto's type lookup; `client(service)` makes boto3 clients of this local AWS."""
    types = {kind: make(client) for kind, make in TYPES.items()}

    def lookup(original: Callable[[str], Any]) -> Callable[[str], Any]:
        def resource_class_from_type(resource_type: str) -> Any:
            known = types.get(resource_type)
            if known is not None and not known.extends_moto:
                return known
            found = original(resource_type)
            if found is None:
                return None
            if known is None:
                known = types[resource_type] = Type(client)
            known.moto = found
            return known

        return resource_class_from_type

    def name_property(original: Callable[[str], str | None]) -> Callable[[str], str | None]:
        def resource_name_property_from_type(resource_type: str) -> str | None:
            known = types.get(resource_type)
            return known.name_property if known and not known.extends_moto else original(resource_type)

        return resource_name_property_from_type

    patches.replace(parsing, "resource_class_from_type", lookup, "resource_type")
    patches.replace(parsing, "resource_name_property_from_type", name_property, "resource_type")
    patches.replace(parsing, "get_references_from_template", lambda _: references, "template")
    patches.replace(CloudFormationBackend, "create_stack", _checked(types), CREATE)
    patches.replace(
        CloudFormationBackend, "update_stack", lambda original: _checked(types)(_only_changes(original)), UPDATE
    )
    patches.replace(Stack, "create_resources", _or_roll_back, "self")
    patches.replace(Stack, "update", _or_go_back, "self template role_arn parameters tags")


def references(template: Any) -> list[str]:
    """Names that a resource refers to by Ref, Fn::GetAtt or inside Fn::Sub (moto sees only Ref)."""
    if isinstance(template, list):
        return [name for item in template for name in references(item)]
    if not isinstance(template, dict):
        return []
    found: list[str] = []
    for key, value in template.items():
        if key == "Ref":
            found.append(value)
        elif key == "Fn::Sub":
            text = value[0] if isinstance(value, list) else value
            found += [part.split("}")[0].split(".")[0] for part in text.split("${")[1:]]
            found += references(value[1]) if isinstance(value, list) else []
        else:
            found += references(value)
    return found


def unknown_types(template: dict[str, Any], types: dict[str, Type]) -> list[str]:
    """Resource types of a template that neither moto nor this module can make."""
    kinds = {resource.get("Type", "") for resource in (template.get("Resources") or {}).values()}
    known = {*types, *parsing.get_model_map(), *parsing.NULL_MODELS}
    return sorted(kind for kind in kinds if kind not in known and not kind.startswith("Custom::"))


def _checked(types: dict[str, Type]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def checked(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: CloudFormationBackend, *args: Any, **kwargs: Any) -> Any:
            body = kwargs.get("template")
            template = Stack.parse_template(body) if isinstance(body, str) else body
            unknown = unknown_types(template or {}, types)
            if unknown:
                raise ValidationError(
                    message=f"Template format error: Unrecognized resource types: [{', '.join(unknown)}] "
                    "(the local AWS has no such type: see local_aws/cloudformation/types.py)"
                )
            return original(self, *args, **kwargs)

        return call

    return checked


def _only_changes(original: Callable[..., Stack]) -> Callable[..., Stack]:
    @functools.wraps(original)
    def update_stack(
        self: CloudFormationBackend, name: str, template: str, role_arn: Any, parameters: Any, tags: Any
    ) -> Stack:
        stack = self.get_stack(name)
        wanted = self._resolve_update_parameters(instance=stack, incoming_params=parameters)
        if stack.has_template(template) and stack.has_parameters(wanted) and tags in (None, {}, stack.tags):
            raise ValidationError(message="No updates are to be performed.")
        return original(self, name=name, template=template, role_arn=role_arn, parameters=parameters, tags=tags)

    return update_stack


def _or_roll_back(original: Callable[..., None]) -> Callable[..., None]:
    def create_resources(self: Stack) -> None:
        try:
            original(self)
        except Exception as error:
            log.error("stack %s failed: %s", self.name, error, exc_info=not isinstance(error, ResourceFailed))
            _record_failure(self, "CREATE_FAILED", error)
            self._add_stack_event("ROLLBACK_IN_PROGRESS", resource_status_reason=str(error))
            _remove_created(self)
            self.status = "ROLLBACK_COMPLETE"
            self.stack_status_reason = str(error)  # type: ignore[attr-defined]
            self._add_stack_event("ROLLBACK_COMPLETE")

    return create_resources


def _record_failure(stack: Stack, status: str, error: Exception) -> None:
    """An event that names the resource that failed, and why."""
    logical, physical, kind, reason = stack.name, stack.stack_id, "AWS::CloudFormation::Stack", str(error)
    if isinstance(error, ResourceFailed):
        logical, physical, kind, reason = error.logical_id, "", error.kind, error.detail
    stack.events.append(
        Event(
            stack_id=stack.stack_id,
            stack_name=stack.name,
            logical_resource_id=logical,
            physical_resource_id=physical,
            resource_type=kind,
            resource_status=status,
            resource_status_reason=reason,
            resource_properties=None,
        )
    )


def _remove_created(stack: Stack) -> None:
    resources = stack.resource_map
    for name in reversed([n for n in resources._parsed_resources if n in resources._resource_json_map]):
        created = resources._parsed_resources[name]
        try:
            if created is not None and not isinstance(created, str):
                resources._delete_resource(created, resources._resource_json_map[name])
        except Exception as error:
            log.warning("rolling back %s: %s could not be deleted: %s", stack.name, name, error)
        resources._parsed_resources.pop(name, None)
    stack.output_map._output_json_map = {}


def _or_go_back(original: Callable[..., None]) -> Callable[..., None]:
    def update(self: Stack, template: str, *args: Any, **kwargs: Any) -> None:
        before, parameters = self.template, dict(self.parameters)
        try:
            original(self, template, *args, **kwargs)
        except Exception as error:
            log.error("update of stack %s failed: %s", self.name, error, exc_info=not isinstance(error, ResourceFailed))
            _record_failure(self, "UPDATE_FAILED", error)
            self.stack_status_reason = str(error)  # type: ignore[attr-defined]
            try:
                original(self, before, None, parameters=parameters)
                self.status = "UPDATE_ROLLBACK_COMPLETE"
            except Exception:
                log.exception("stack %s could not be brought back", self.name)
                self.status = "UPDATE_ROLLBACK_FAILED"
            self._add_stack_event(self.status, resource_status_reason=str(error))

    return update
