from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.inference_lambda import tiny_model
from tests.poison import fuzz, mutations, poison_corpus, poison_dicom


@pytest.fixture(scope="session")
def poison() -> SimpleNamespace:
    """The corpus and what its modules offer to tests."""
    return SimpleNamespace(
        files=poison_corpus.corpus(),
        rendered=poison_corpus.rendered,
        docs=poison_corpus.DOCS,
        mutated=mutations.mutated,
        secrets=(poison_dicom.PATIENT, poison_dicom.PATIENT_ID, "John Doe"),
        engine=fuzz.MeanEngine(),
        limits=fuzz.LIMITS,
    )


@pytest.fixture(scope="session")
def tiny_bundle():
    """A manifest of a model that need not exist here."""
    return tiny_model.manifest({"model.tflite": b"model"})
