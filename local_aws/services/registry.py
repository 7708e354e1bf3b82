"""The model registry answers as SageMaker's does: an update leaves alone what it does not name.

Without this an approval wipes a model package's metadata, a metadata update wipes its approval, a package without a
stated approval has none (AWS: PendingManualApproval), and creating a group twice replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import AWSValidationException, ConflictException, ValidationError
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from local_aws.patches import Patches

UPDATE = (
    "self model_package_arn model_approval_status approval_description customer_metadata_properties "
    "customer_metadata_properties_to_remove additional_inference_specifications_to_add"
)
GROUP = "self model_package_group_name model_package_group_description tags"


def install(patches: Patches) -> None:
    """Replace what moto's registry does differently, and add the two deletions."""
    patches.replace(SageMakerModelBackend, "update_model_package", _merging, UPDATE)
    patches.replace(SageMakerModelBackend, "create_model_package_group", _once, GROUP)
    patches.replace(SageMakerResponse, "create_model_package", _pending_by_default, "self")
    patches.add(SageMakerResponse, "delete_model_package", _delete_package)
    patches.add(SageMakerResponse, "delete_model_package_group", _delete_group)


def _merging(original: Callable[..., str]) -> Callable[..., str]:
    def update_model_package(self: SageMakerModelBackend, **wanted: Any) -> str:
        now = self.describe_model_package(wanted["model_package_arn"])
        for name in ("model_approval_status", "approval_description"):
            if wanted[name] is None:
                wanted[name] = getattr(now, name)
        metadata = {**(now.customer_metadata_properties or {}), **(wanted["customer_metadata_properties"] or {})}
        return original(self, **{**wanted, "customer_metadata_properties": metadata})

    return update_model_package


def _once(original: Callable[..., str]) -> Callable[..., str]:
    def create_model_package_group(self: SageMakerModelBackend, **wanted: Any) -> str:
        known = self.model_package_groups.get(wanted["model_package_group_name"])
        if known is not None:
            raise ValidationError(f"Model Package Group already exists: {known.arn}")
        return original(self, **wanted)

    return create_model_package_group


def _pending_by_default(original: Callable[..., ActionResult]) -> Callable[..., ActionResult]:
    def create_model_package(self: SageMakerResponse) -> ActionResult:
        result = original(self)
        arn = cast(dict[str, str], result.result)["ModelPackageArn"]
        package = self.sagemaker_backend.describe_model_package(arn)
        if package.model_approval_status is None:
            package.set_model_approval_status("PendingManualApproval")
        return result

    return create_model_package


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
