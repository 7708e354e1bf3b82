"""The model registry answers as SageMaker's does: an update leaves alone what it does not name.

Without this an approval wipes a model package's metadata, a metadata update wipes its approval, a package without a
stated approval has none (AWS: PendingManualApproval), and creating a group twice replaces it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import AWSValidationException, ConflictException, ValidationError
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from local_aws.patches import Patches

UPDATE = (
    "self",
    "model_package_arn",
    "model_approval_status",
    "approval_description",
    "customer_metadata_properties",
    "customer_metadata_properties_to_remove",
    "additional_inference_specifications_to_add",
)
_lock = threading.Lock()
GROUP = ("self", "model_package_group_name", "model_package_group_description", "tags")


def install(patches: Patches) -> None:
    """Replace what moto's registry does differently, and add the two deletions."""
    patches.replace(SageMakerModelBackend, "update_model_package", _merging, UPDATE)
    patches.replace(SageMakerModelBackend, "create_model_package_group", _once, GROUP)
    patches.replace(SageMakerResponse, "create_model_package", _pending_by_default, ("self",))
    patches.add(SageMakerResponse, "delete_model_package", _delete_package)
    patches.add(SageMakerResponse, "delete_model_package_group", _delete_group)


def _merging(original: Callable[..., str]) -> Callable[..., str]:
    def update_model_package(
        self: SageMakerModelBackend,
        model_package_arn: str,
        model_approval_status: str | None,
        approval_description: str | None,
        customer_metadata_properties: dict[str, str] | None,
        customer_metadata_properties_to_remove: list[str],
        additional_inference_specifications_to_add: list[Any] | None,
    ) -> str:
        now = self.describe_model_package(model_package_arn)
        known_specifications = now.additional_inference_specifications
        arn = original(
            self,
            model_package_arn,
            model_approval_status or now.model_approval_status,
            now.approval_description if approval_description is None else approval_description,
            {**(now.customer_metadata_properties or {}), **(customer_metadata_properties or {})},
            customer_metadata_properties_to_remove,
            additional_inference_specifications_to_add,
        )
        if additional_inference_specifications_to_add is None:
            now.additional_inference_specifications = known_specifications
        return arn

    return update_model_package


def _once(original: Callable[..., str]) -> Callable[..., str]:
    def create_model_package_group(
        self: SageMakerModelBackend,
        model_package_group_name: str,
        model_package_group_description: str,
        tags: list[dict[str, str]] | None = None,
    ) -> str:
        if model_package_group_name in self.model_package_groups:
            arn = self.model_package_groups[model_package_group_name].arn
            raise ValidationError(f"Model Package Group already exists: {arn}")
        return original(self, model_package_group_name, model_package_group_description, tags)

    return create_model_package_group


def _pending_by_default(original: Callable[..., ActionResult]) -> Callable[..., ActionResult]:
    def create_model_package(self: SageMakerResponse) -> ActionResult:
        backend = self.sagemaker_backend
        with _lock:
            before = dict(backend.model_packages)
            result = original(self)
            package = backend.describe_model_package(cast(dict[str, str], result.result)["ModelPackageArn"])
            if package.model_approval_status is None:
                package.set_model_approval_status("PendingManualApproval")
            if package.model_package_version is not None:
                _never_reuse_a_version(backend, package, before)
        return ActionResult({"ModelPackageArn": package.arn})

    return create_model_package


def _never_reuse_a_version(backend: SageMakerModelBackend, package: Any, before: dict[str, Any]) -> None:
    """moto counts the packages of a group; after a deletion the count would name, and replace, an existing version."""
    group = package.model_package_group_name
    versions = [p.model_package_version for p in before.values() if p.model_package_group_name == group]
    highest: dict[str, int] = backend.__dict__.setdefault("highest_versions", {})
    number = max([highest.get(group, 0), *versions]) + 1
    if package.model_package_version != number:
        del backend.model_packages[package.arn]
        if package.arn in before:
            backend.model_packages[package.arn] = before[package.arn]
        package.model_package_version = number
        package.arn = f"{package.arn.rsplit('/', 1)[0]}/{number}"
        backend.model_packages[package.arn] = package
        backend.model_package_name_mapping[package.arn] = package.arn
    highest[group] = number


def _delete_package(self: SageMakerResponse) -> EmptyResult:
    backend = self.sagemaker_backend
    package = backend.describe_model_package(self._get_param("ModelPackageName"))
    del backend.model_packages[package.arn]
    backend.model_package_name_mapping.pop(package.arn, None)
    return EmptyResult()


def _delete_group(self: SageMakerResponse) -> EmptyResult:
    backend, name = self.sagemaker_backend, self._get_param("ModelPackageGroupName").rsplit("/", 1)[-1]
    if name not in backend.model_package_groups:
        raise AWSValidationException(f"Model Package Group {name} does not exist.")
    left = [p.arn for p in backend.model_packages.values() if p.model_package_group_name == name]
    if left:
        raise ConflictException(f"Model Package Group {name} still holds {len(left)} model packages: delete them first")
    del backend.model_package_groups[name]
    return EmptyResult()
