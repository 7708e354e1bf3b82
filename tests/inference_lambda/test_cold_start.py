"""What a cold start imports is what it costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEVER = ("tensorflow", "keras", "h5py", "matplotlib", "scipy", "moto", "airflow", "jsonschema")


def modules_after(code: str, **environment: str) -> set[str]:
    """Top-level modules loaded by a fresh interpreter that ran `code`."""
    program = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_handler_loads_only_what_every_film_needs():
    loaded = modules_after("import inference_lambda.handler")
    assert not loaded & {*NEVER, "boto3", "botocore", "pydicom", "gdcm", "ai_edge_litert"}


def test_a_whole_classification_never_imports_tensorflow(tiny, model_cache, tmp_path):
    for name, data in tiny.bundle_files(model_cache).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "film.jpeg").write_bytes(tiny.grey_film(170))
    call = f"main([{str(tmp_path / 'film.jpeg')!r}, '--bundle', {str(tmp_path)!r}])"
    loaded = modules_after(f"from inference_lambda.classify import main\nassert {call} == 0")
    assert "ai_edge_litert" in loaded
    assert not loaded & {*NEVER, "boto3", "pydicom"}


def test_nothing_here_opens_keras_files():
    sources = [path.read_text() for folder in ("cxr", "inference_lambda") for path in (ROOT / folder).glob("*.py")]
    assert not [source for source in sources if ".keras" in source or "load_model" in source or ".h5" in source]


@pytest.mark.parametrize(("memory", "threads"), [("512", 1), ("1769", 1), ("3538", 2), ("10240", 5)])
def test_threads_are_those_that_the_memory_pays_for(memory, threads):
    from inference_lambda.config import Config

    environment = {f"CXR_{name}_BUCKET": name.lower() for name in ("UPLOADS", "RESULTS", "MODELS")}
    config = Config.from_environment({**environment, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory})
    assert config.threads == threads and config.pointer_key == "models/current.json"


def test_a_missing_setting_is_named():
    from inference_lambda.config import Config

    with pytest.raises(KeyError, match="CXR_UPLOADS_BUCKET"):
        Config.from_environment({})


def test_the_entry_point_makes_one_function_and_keeps_it(account, events, tiny, monkeypatch):
    from inference_lambda import handler as module

    account.promote()
    account.upload("a", tiny.grey_film(170))
    monkeypatch.setattr(module, "_function", None)
    for name in ("uploads", "results", "models"):
        monkeypatch.setenv(f"CXR_{name.upper()}_BUCKET", name)
    monkeypatch.setenv("CXR_SCRATCH", str(account.config.scratch))
    assert module.handler(events.direct("a"), events.context())["done"] == ["a"]
    warm = module._function
    assert module.handler(events.direct("a"), events.context())["skipped"] == ["a"]
    assert module._function is warm
