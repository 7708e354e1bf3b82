"""What a resource type answers to moto's CloudFormation.

A type answers moto's calls create, update and delete `_from_cloudformation_json`. `Type` as it stands passes them on
to moto's class; a subclass adds what moto ignores (`extends_moto`) or, as an `Own`, is the whole resource, made through
the service's own API.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException, ValidationError

log = logging.getLogger(__name__)
Properties = Mapping[str, Any]
NUMBERS: dict[str, Callable[[Any], Any]] = {"integer": int, "long": int, "float": float, "double": float}


class ResourceFailed(ValidationError):
    """A resource of a stack could not be made."""

    def __init__(self, logical_id: str, kind: str, detail: str) -> None:
        super().__init__(message=f"{logical_id} ({kind}): {detail}")
        self.logical_id, self.kind, self.detail = logical_id, kind, detail


class Made:
    """A resource of a type that moto does not have: what Ref and Fn::GetAtt return."""

    def __init__(self, ref: str, attributes: Mapping[str, str] | None = None, name: str | None = None) -> None:
        self.physical_resource_id = ref
        self.name = name or ref
        self.attributes = dict(attributes or {})
        self.cf_resource_type = self.logical_resource_id = ""

    @property
    def type(self) -> str:
        return self.cf_resource_type

    def get_cfn_attribute(self, name: str) -> str:
        if name not in self.attributes:
            raise UnformattedGetAttTemplateException()
        return self.attributes[name]

    def is_created(self) -> bool:
        return True


class Type:
    """A resource type; this one passes everything on to moto's class, and makes its errors name the resource."""

    extends_moto = True
    name_property: str | None = None

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.client = client
        self.moto: Any = None

    def has_cfn_attr(self, name: str) -> bool:
        return bool(self.moto.has_cfn_attr(name))

    def create_from_cloudformation_json(
        self, name: str, resource: dict[str, Any], account: str, region: str, **context: Any
    ) -> Any:
        try:
            return self.create(name, resource, account, region, **context)
        except Exception as error:
            detail = getattr(error, "message", None) or str(error) or type(error).__name__
            raise ResourceFailed(context.get("LogicalId", name), resource.get("Type", ""), detail) from error

    def create(self, name: str, resource: dict[str, Any], account: str, region: str, **context: Any) -> Any:
        made = self.moto.create_from_cloudformation_json(name, resource, account, region, **context)
        try:
            self.apply(made, resource.get("Properties", {}))
        except Exception:
            self.delete_from_cloudformation_json(made.physical_resource_id, resource, account, region)
            raise
        return made

    def update_from_cloudformation_json(
        self, original_resource: Any, new_resource_name: str, cloudformation_json: dict[str, Any], **place: str
    ) -> Any:
        updated, update = original_resource, self.moto.update_from_cloudformation_json
        if hasattr(update, "__isabstractmethod__"):
            kind = cloudformation_json["Type"]
            log.warning("moto cannot update %s; only what the local AWS adds to it is applied", kind)
        else:
            updated = update(original_resource, new_resource_name, cloudformation_json, **place) or original_resource
        self.apply(updated, cloudformation_json.get("Properties", {}))
        return updated

    def delete_from_cloudformation_json(self, name: str, resource: dict[str, Any], account: str, region: str) -> None:
        if not hasattr(self.moto.delete_from_cloudformation_json, "__isabstractmethod__"):
            self.moto.delete_from_cloudformation_json(name, resource, account, region)

    def apply(self, made: Any, properties: Properties) -> None:
        """Apply what moto ignores to the resource that it made; runs after creation and after an update."""


class Own(Type, ABC):
    """A type that moto does not have: `put` creates or updates it, `remove` deletes it.

    moto hands a deletion the template's text, references unresolved; so the properties of what was made are kept.
    """

    extends_moto = False
    attributes: tuple[str, ...] = ()

    def __init__(self, client: Callable[[str], Any]) -> None:
        super().__init__(client)
        self._made: dict[str, Properties] = {}

    def has_cfn_attr(self, name: str) -> bool:
        return name in self.attributes

    def create(self, name: str, resource: dict[str, Any], *place: str, **context: Any) -> Any:
        properties = resource.get("Properties", {})
        made = self.put(name, properties)
        self._made[made.physical_resource_id] = properties
        return made

    def update_from_cloudformation_json(
        self, original_resource: Any, new_resource_name: str, cloudformation_json: dict[str, Any], **place: str
    ) -> Any:
        named = self.name_property in cloudformation_json.get("Properties", {})
        updated = self.create(new_resource_name if named else original_resource.name, cloudformation_json)
        if updated.physical_resource_id != original_resource.physical_resource_id:
            self._forget(original_resource.physical_resource_id)
        return updated

    def delete_from_cloudformation_json(self, name: str, *description: Any) -> None:
        self._forget(name)

    def _forget(self, ref: str) -> None:
        if ref in self._made:
            self.remove(ref, self._made.pop(ref))

    @abstractmethod
    def put(self, name: str, properties: Properties) -> Made:
        """Create the resource, or update the one of that name."""

    @abstractmethod
    def remove(self, ref: str, properties: Properties) -> None:
        """Delete what `put` made from these properties."""


def call(client: Any, operation: str, **arguments: Any) -> Any:
    """Call an operation with values of a template, where every number may be a text and every policy a structure:
    the API's own model says what each of them must be.
    """
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
    return getattr(client, operation)(**_typed(arguments, shape))


def _typed(value: Any, shape: Shape) -> Any:
    if isinstance(shape, StructureShape):
        return {name: _typed(item, shape.members[name]) for name, item in value.items()}
    if isinstance(shape, ListShape):
        return [_typed(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {name: _typed(item, shape.value) for name, item in value.items()}
    if shape.type_name == "boolean":
        return str(value).lower() == "true"
    if shape.type_name == "string":
        return value if isinstance(value, str) else json.dumps(value, default=str)
    return NUMBERS.get(shape.type_name, lambda same: same)(value)
