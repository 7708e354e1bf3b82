from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

# fuzz.py and the corpus are also run as scripts, so the modules of this folder find each other by name.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def poison() -> SimpleNamespace:
    """The corpus and what its modules offer to tests."""
    import fuzz
    import mutations
    import poison_corpus
    import poison_dicom

    return SimpleNamespace(
        files=poison_corpus.corpus(),
        rendered=poison_corpus.rendered,
        docs=poison_corpus.DOCS,
        mutated=mutations.mutated,
        secrets=(poison_dicom.PATIENT, poison_dicom.PATIENT_ID, "John Doe"),
        engine=fuzz.MeanEngine(),
        limits=fuzz.LIMITS,
        fuzz=Path(fuzz.__file__),
    )


@pytest.fixture(scope="session")
def tiny_bundle():
    """A manifest of a model that need not exist here."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "inference_lambda"))
    import tiny_model

    return tiny_model.manifest({"model.tflite": b"model"})
