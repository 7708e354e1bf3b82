import io
import struct
import zipfile

import numpy as np
import pytest

from cxr.engine import Engine, EngineError


@pytest.fixture(scope="module")
def model(tiny, model_cache) -> bytes:
    return tiny.cached_model(model_cache)


@pytest.fixture(scope="module")
def engine(model) -> Engine:
    return Engine(model)


def test_the_engine_returns_three_named_outputs(engine, tiny):
    output = engine.run(np.full((224, 224), 150, np.uint8))
    assert output.probability == pytest.approx(tiny.expected_probability(150), abs=1e-4)
    assert output.ood_distance == pytest.approx(40 * abs(150 / 255 - 0.5), abs=1e-3)
    assert output.heatmap.shape == (14, 14) and output.heatmap.dtype == np.float32


def test_the_engine_takes_the_side_of_its_model(tiny, model_cache):
    engine = Engine(tiny.cached_model(model_cache, side=64))
    assert engine.side == 64 and engine.run(np.zeros((64, 64), np.uint8)).heatmap.shape == (4, 4)
    engine.check_golden(tiny.golden(side=64))
    with pytest.raises(ValueError, match="64"):
        engine.run(np.zeros((224, 224), np.uint8))
    with pytest.raises(EngineError, match=r"expected uint8 \(n, 64, 64\)"):
        engine.check_golden(tiny.golden())


@pytest.mark.parametrize("side", [48, 72, 336])
def test_a_model_of_a_side_that_no_bundle_may_have_is_refused(tiny, model_cache, side):
    with pytest.raises(EngineError, match="64 to 320 px in steps of 16"):
        Engine(tiny.cached_model(model_cache, side=side))


def test_a_later_run_leaves_earlier_heat_maps_alone(engine):
    first = engine.run(np.full((224, 224), 200, np.uint8)).heatmap
    before = first.copy()
    engine.run(np.zeros((224, 224), np.uint8))
    assert np.array_equal(first, before)


def test_a_model_from_a_file_answers_as_one_from_bytes(engine, model, tmp_path):
    (tmp_path / "model.tflite").write_bytes(model)
    film = np.full((224, 224), 90, np.uint8)
    assert Engine(tmp_path / "model.tflite").run(film).probability == engine.run(film).probability


@pytest.mark.parametrize(
    "bad", [np.zeros((224, 224)), np.zeros((224, 223), np.uint8), np.zeros((1, 224, 224), np.uint8)]
)
def test_pixels_of_another_shape_or_type_are_refused(engine, bad):
    with pytest.raises(ValueError, match="read_film"):
        engine.run(bad)


def test_the_golden_films_pass_on_an_intact_model(engine, tiny):
    engine.check_golden(tiny.golden())


def test_a_cold_start_may_run_fewer_golden_films(engine, tiny):
    arrays = dict(np.load(io.BytesIO(tiny.golden())))
    arrays["probability"][2] = 0.123
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    engine.check_golden(stream.getvalue(), at_most=2)
    with pytest.raises(EngineError):
        engine.check_golden(stream.getvalue())


def test_another_model_fails_the_golden_films(engine, tiny):
    with pytest.raises(EngineError, match="golden probability"):
        engine.check_golden(tiny.golden(slope=-12.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": np.full(3, np.nan, np.float32)},
        {"ood_distance": np.full(3, 99, np.float32)},
        {"heatmap": np.zeros((3, 7, 7), np.float32)},
        {"films": np.zeros((0, 224, 224), np.uint8)},
        {"tolerance": np.float32("nan")},
        {"tolerance": np.float32("inf")},
        {"tolerance": np.float32(0.11)},
        {"tolerance": np.float32(-0.01)},
        {"ood_distance": np.full(3, np.inf, np.float32)},
        {"heatmap": np.full((3, 14, 14), np.nan, np.float32)},
        {"films": np.zeros((1400, 224, 224), np.uint8)},
    ],
    ids=[
        "probability",
        "distance",
        "heatmap",
        "empty",
        "no tolerance",
        "infinite tolerance",
        "wide tolerance",
        "negative tolerance",
        "infinite distance",
        "no number in a heat map",
        "a gigabyte",
    ],
)
def test_any_golden_difference_is_an_error(engine, tiny, changes):
    arrays = dict(np.load(io.BytesIO(tiny.golden())))
    stream = io.BytesIO()
    np.savez(stream, **{**arrays, **changes})
    with pytest.raises(EngineError):
        engine.check_golden(stream.getvalue())


def packed(arrays: dict) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


U1 = "{'descr': '|u1', 'fortran_order': False, 'shape': "


def headed(text: str) -> bytes:
    """An archive whose films have this header."""
    header = text.encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("films.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        for name in ("probability", "ood_distance", "heatmap", "tolerance"):
            array = io.BytesIO()
            np.save(array, np.zeros(3))
            archive.writestr(f"{name}.npy", array.getvalue())
    return stream.getvalue()


def bare_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole, arrays: b"",
        lambda whole, arrays: b"corrupt",
        lambda whole, arrays: b"PK\x03\x04" + bytes(100),
        lambda whole, arrays: whole[: len(whole) // 2],
        lambda whole, arrays: whole.replace(whole[300:310], bytes(10), 1),
        lambda whole, arrays: bare_array(),
        lambda whole, arrays: packed({name: array for name, array in arrays.items() if name != "tolerance"}),
        lambda whole, arrays: packed({**arrays, "tolerance": np.zeros(2)}),
        lambda whole, arrays: packed({**arrays, "films": arrays["films"].astype(np.float32)}),
        lambda whole, arrays: packed({**arrays, "films": arrays["films"][:, :7]}),
        lambda whole, arrays: packed({**arrays, "films": np.uint8(7)}),
        lambda whole, arrays: packed({**arrays, "probability": np.array(["a", "b", "c"])}),
        lambda whole, arrays: packed({**arrays, "probability": np.float32(0.5)}),
        lambda whole, arrays: packed({**arrays, "heatmap": np.array([None, None, None])}),
        lambda whole, arrays: headed(U1 + f"({10**30}, 224, 224)}}"),
        lambda whole, arrays: headed(U1 + f"({10**12}, 224, 224)}}"),
        lambda whole, arrays: headed("(" * 5000),
        lambda whole, arrays: headed("{'descr': " + "[" * 900 + "]" * 900 + ", 'fortran_order': False, 'shape': ()}"),
    ],
    ids=[
        "empty",
        "no archive",
        "archive of nothing",
        "cut",
        "flipped",
        "bare array",
        "no tolerance",
        "two tolerances",
        "float films",
        "small films",
        "no film",
        "text",
        "one answer",
        "objects",
        "huge shape",
        "terabytes",
        "deep header",
        "deep type",
    ],
)
def test_a_golden_file_of_another_form_is_an_engine_error(engine, tiny, spoil):
    whole = tiny.golden()
    with pytest.raises(EngineError, match=r"golden.*export the bundle again"):
        engine.check_golden(spoil(whole, dict(np.load(io.BytesIO(whole)))))


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x1c\x00\x00\x00TFL3" + bytes(200)])
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(EngineError):
        Engine(data)
