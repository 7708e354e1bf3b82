from pathlib import Path
from types import ModuleType

import pytest

from tests.inference_lambda import tiny_model


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return tiny_model


@pytest.fixture(scope="session")
def model_cache(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.cache.mkdir("tiny_model"))
