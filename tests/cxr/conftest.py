import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

# dicom_files.py is found by name: tests/ is no package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/inference_lambda/tiny_model.py, loaded by path because tests/ is no package."""
    file = Path(__file__).parents[1] / "inference_lambda" / "tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def model_cache(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.cache.mkdir("tiny_model"))
