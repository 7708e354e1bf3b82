"""Cached features change the cost of training, not its result."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from cxr.hyperparameters import Hyperparameters
from training_job import augment, export, features, fit, learning, network
from training_job.checkpoint import Checkpoints
from training_job.container import Container, explain
from training_job.context import Context
from training_job.heads import FLATTEN, GAP, HEADS
from training_job.learning import feature_trunk
from training_job.litert import Signature
from training_job.stop import Stop, Stopped

SIDE, COUNT = 64, 24
SMALLEST = 32
"""What VGG16 takes at least: for gradients in float16, which a CPU computes slowly."""


def pixels(count: int = COUNT, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 255, (count, 8, 8)), np.ones((1, 8, 8))).astype(np.uint8)


def labels(count: int = COUNT) -> np.ndarray:
    return np.arange(count) % 2


def phase(**changes: object) -> fit.Phase:
    defaults = {"name": "head", "epochs": 3, "learning_rate": 1e-3, "batch_size": 8, "patience": 9, "seed": 4}
    return fit.Phase(**{**defaults, **changes})  # type: ignore[arg-type]


def samples(net: network.Network, *copies: features.Features) -> features.Samples:
    count = len(copies[-1])
    return features.Samples(list(copies), np.arange(count), net.head.targets(labels(count)), np.ones(count, np.float32))


@pytest.mark.parametrize("name", ["gap", "flatten"])
def test_training_on_cached_features_equals_fit_through_the_frozen_base(name: str, tmp_path: Path) -> None:
    """Same seed, same order. Tolerance, of the largest weight: float32 sums in another order."""
    weights = []
    for cached in (True, False):
        net = network.build(HEADS[name], None, 16, seed=1, side=SIDE)
        trunk = feature_trunk(net, (net.head.feature, "embedding"), "keras")
        found = features.compute(trunk, pixels(), tmp_path / "cache", "films", Stop())
        net.standardize(found["embedding"][:])
        inputs = found[net.head.feature] if cached else pixels()[..., None]
        model = net.training_model(net.head.feature) if cached else net.whole()
        fit.train(
            model,
            net.head,
            phase(),
            fit.Lesson(samples(net, inputs), inputs, np.arange(COUNT), labels()),
            Checkpoints(tmp_path / f"{cached}", "x"),
            Stop(),
        )
        head = [w for layer in net.whole().layers if layer.trainable for w in layer.get_weights()]
        weights.append(np.concatenate([w.ravel() for w in head]))
    assert np.abs(weights[0] - weights[1]).max() <= 1e-4 * np.abs(weights[1]).max()


@pytest.mark.parametrize(("head", "cut"), [("gap", "embedding"), ("flatten", "block5_pool")])
def test_int8_features_kept_as_they_were_computed_are_those_of_the_whole_int8_file(
    tmp_path: Path, head: str, cut: str
) -> None:
    """Why limits may be measured on the tail alone: trunk and tail in two files answer as one file does."""
    net = network.build(HEADS[head], None, 16, seed=2, side=SIDE)
    whole = export.to_tflite(net.between("film", logit=net.logit, embedding=net.points["embedding"]), "int8")
    tail = export.to_tflite(net.between(cut, logit=net.logit, embedding=net.points["embedding"]), "int8")
    found = features.compute(feature_trunk(net, (cut,), "int8"), pixels(3), tmp_path, "films", Stop())
    run_whole, run_tail = Signature(whole), Signature(tail)
    for film, feature in zip(pixels(3), found[cut][:], strict=True):
        one, two = run_whole(film[..., None]), run_tail(feature)
        assert two["embedding"] == pytest.approx(one["embedding"], rel=1e-5, abs=1e-5)
        assert one["logit"].item() == pytest.approx(two["logit"].item(), abs=1e-5)


class Counting:
    """A trunk that counts the films it sees and asks to stop after some."""

    def __init__(self, stop: Stop | None = None, after: int = 10**9) -> None:
        self.seen, self._stop, self._after = 0, stop, after
        self.trunk = features.Trunk("counting", {"embedding": (2,)}, self._run)

    def _run(self, films: np.ndarray) -> dict[str, np.ndarray]:
        self.seen += len(films)
        if self._stop and self.seen >= self._after:
            self._stop.asked = True
        return {"embedding": films.reshape(len(films), -1)[:, :2].astype(np.float32)}


def test_a_feature_pass_that_was_cut_short_goes_on_where_it_stopped(tmp_path: Path) -> None:
    films = pixels(100)
    stop = Stop()
    first, second, third = Counting(stop, after=64), Counting(), Counting()
    with pytest.raises(Stopped):
        features.compute(first.trunk, films, tmp_path, "films", stop)
    found = features.compute(second.trunk, films, tmp_path, "films", Stop())
    features.compute(third.trunk, films, tmp_path, "films", Stop())
    assert (first.seen, second.seen, third.seen) == (64, 36, 0)
    assert np.array_equal(found["embedding"][:], films.reshape(100, -1)[:, :2])


def test_a_mark_without_its_features_or_a_file_cut_short_is_computed_again(tmp_path: Path) -> None:
    """Zeros of a file that was made again must never pass for what an earlier pass had computed."""
    films = pixels(100)
    features.compute(Counting().trunk, films, tmp_path, "films", Stop())
    (data,) = tmp_path.glob("*.npy")
    data.write_bytes(data.read_bytes()[:200])
    cut_short = Counting()
    features.compute(cut_short.trunk, films, tmp_path, "films", Stop())
    assert cut_short.seen == 100
    data.unlink()
    killed = Stop()
    killed.asked = True
    with pytest.raises(Stopped):
        features.compute(Counting().trunk, films, tmp_path, "films", killed)
    again = Counting()
    found = features.compute(again.trunk, films, tmp_path, "films", Stop())
    assert again.seen == 100 and np.array_equal(found["embedding"][:], films.reshape(100, -1)[:, :2])


def test_the_cost_of_a_pass_is_that_of_all_processes_that_worked_on_it(tmp_path: Path) -> None:
    stop = Stop()
    with pytest.raises(Stopped):
        features.compute(Counting(stop, after=64).trunk, pixels(100), tmp_path, "films", stop)
    (mark,) = tmp_path.glob("*.json")
    mark.write_text(mark.read_text().replace('"seconds": ', '"seconds": 1000'))
    found = features.compute(Counting().trunk, pixels(100), tmp_path, "films", Stop())
    assert features.seconds_spent(found) > 1000
    assert features.seconds_spent(features.compute(Counting().trunk, pixels(100), tmp_path, "films", Stop())) > 1000


def test_features_of_another_preprocessing_or_another_weights_file_are_not_taken() -> None:
    nets = [network.build(HEADS[name], None, 16, seed, SIDE) for name, seed in (("gap", 1), ("gap", 2), ("flatten", 1))]
    assert len({feature_trunk(net, ("embedding",), "keras").identity for net in nets}) == 3


def test_an_augmented_copy_that_fine_tuning_reads_as_films_lies_on_disk(tmp_path: Path) -> None:
    kept = features.keep(pixels(3)[..., None], tmp_path, 1)
    assert kept.dtype == np.uint8 and np.array_equal(kept[:], pixels(3)[..., None])


def test_other_pixels_get_other_features(tmp_path: Path) -> None:
    one, two = Counting(), Counting()
    features.compute(one.trunk, pixels(5), tmp_path, "films", Stop())
    changed = pixels(5)
    changed[3, 0, 0] ^= 1
    found = features.compute(two.trunk, changed, tmp_path, "films", Stop())
    assert two.seen == 5 and found["embedding"][3, 0] == changed[3, 0, 0]


def test_a_feature_that_overflows_its_type_is_an_error_not_an_infinity(tmp_path: Path) -> None:
    trunk = features.Trunk("huge", {"map": (1, 1, 2)}, lambda films: {"map": np.full((len(films), 1, 1, 2), 1e6)})
    with pytest.raises(FloatingPointError, match="map feature is not finite"), np.errstate(over="ignore"):
        features.compute(trunk, pixels(2), tmp_path, "films", Stop())


def test_maps_are_kept_in_the_type_that_their_head_needs(tmp_path: Path) -> None:
    fine = 1.0 + pixels(3)[:, :2, :2, None].astype(np.float32) * 1e-6

    def kept(map_type: str) -> np.ndarray:
        trunk = features.Trunk("fine", {"map": (2, 2, 1)}, lambda films: {"map": fine}, map_type)
        return features.compute(trunk, pixels(3), tmp_path, "films", Stop())["map"][:]

    assert np.array_equal(kept("float32"), fine)
    assert kept("float16").dtype == np.float16 and not np.array_equal(kept("float16"), fine)
    assert (HEADS["gap"].map_type, HEADS["flatten"].map_type) == ("float16", "float32")


def test_a_disk_that_cannot_hold_the_features_is_an_error_before_any_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def full(descriptor: int, offset: int, size: int) -> None:
        asked.append((offset, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features.os, "posix_fallocate", full)
    trunk = Counting()
    with pytest.raises(OSError) as refusal:
        features.compute(trunk.trunk, pixels(100), tmp_path, "films", Stop())
    assert explain(refusal.value).startswith(f"disk full at {tmp_path}/") and "VolumeSizeInGB" in explain(refusal.value)
    ((offset, size),) = asked
    assert offset == 0 and size >= 100 * 2 * 4
    assert trunk.seen == 0 and not list(tmp_path.iterdir()), "what was taken of the disk must be given back"


def test_features_take_their_place_on_disk_before_they_are_computed(tmp_path: Path) -> None:
    features._create(tmp_path / "map.npy", (1000, 64), "float32")
    status = (tmp_path / "map.npy").stat()
    assert status.st_blocks * 512 >= status.st_size >= 1000 * 64 * 4


def test_features_on_disk_are_no_memory_of_the_job_between_two_batches(tmp_path: Path) -> None:
    kept = features.compute(Counting().trunk, pixels(100), tmp_path, "films", Stop())["embedding"]
    data = features.Samples([kept], np.arange(100), np.zeros((100, 1)), np.ones(100, np.float32))
    inputs, _, _ = data.take(np.array([3, 99]))
    assert np.array_equal(inputs, pixels(100).reshape(100, -1)[[3, 99], :2])
    assert str(kept.path) not in Path("/proc/self/maps").read_text()


def test_every_sample_is_drawn_once_an_epoch_and_from_its_own_copy() -> None:
    """Copy 0 is indexed by the rows of the train bucket, an augmented copy by position in it."""
    rows = np.array([1, 3])
    whole, copy = np.arange(10, dtype=np.float32).reshape(5, 2), np.array([[10, 10], [30, 30]], np.float32)
    data = features.Samples([whole, copy], rows, np.array([[1.0], [3.0]]), np.ones(2, np.float32))
    inputs, targets, _ = data.take(np.arange(4))
    assert inputs[:, 0].tolist() == [2, 6, 10, 30] and targets[:, 0].tolist() == [1, 3, 1, 3]
    assert sorted(data.order(0, 0)) == [0, 1, 2, 3]
    assert not np.array_equal(data.order(0, 0), data.order(0, 1)) or not np.array_equal(
        data.order(0, 1), data.order(0, 2)
    )


def toy(dtype: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden", dtype=dtype)(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))


def toy_run(
    folder: Path, stop_after: int | None, dtype: str = "float32", weight: float = 1.0, **changes: object
) -> tuple[list[np.ndarray], list[str]]:
    """Train the toy; with `stop_after`, ask for a stop once that many epochs were reported."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 4)).astype(np.float32)
    y = (inputs[:, 0] > 0).astype(int)
    data = features.Samples([inputs], np.arange(40), GAP.targets(y), weight * fit.class_weights(y))
    stop, lines, model = Stop(), [], toy(dtype)

    def report(line: str) -> None:
        if line.startswith("epoch="):
            lines.append(line)
        stop.asked = stop.asked or len(lines) == stop_after

    lesson = fit.Lesson(data, inputs, np.arange(40), y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "say", report)
        fit.train(model, GAP, phase(**{"epochs": 6, **changes}), lesson, Checkpoints(folder, "f"), stop)
    return model.get_weights(), lines


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_an_interrupted_job_ends_where_the_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """In float16 with a loss scale that grows until it overflows: forgotten, it would skip other steps."""
    growing = partial(keras.optimizers.LossScaleOptimizer, initial_scale=2.0**12, dynamic_growth_steps=2)
    monkeypatch.setattr(keras.optimizers, "LossScaleOptimizer", growing)
    straight, _ = toy_run(tmp_path / "a", None, dtype)
    with pytest.raises(Stopped):
        toy_run(tmp_path / "b", 2, dtype)
    resumed, lines = toy_run(tmp_path / "b", None, dtype)
    one, two = (Checkpoints(tmp_path / name, "f").load() for name in "ab")
    assert one and two and [a.tolist() for a in one.optimizer] == [b.tolist() for b in two.optimizer]
    assert [line.split()[0] for line in lines] == ["epoch=3", "epoch=4", "epoch=5", "epoch=6"]
    assert all(np.array_equal(a, b) for a, b in zip(straight, resumed, strict=True))


def test_the_loss_is_scaled_where_a_trained_layer_computes_in_float16_and_nowhere_else() -> None:
    mixed, plain, frozen = toy("mixed_float16"), toy(), toy("mixed_float16")
    frozen.get_layer("hidden").trainable = False
    kinds = [type(fit.compiled(model, GAP, phase(), 5).optimizer) for model in (mixed, plain, frozen)]
    assert kinds == [keras.optimizers.LossScaleOptimizer, keras.optimizers.Adam, keras.optimizers.Adam]


def test_gradients_too_small_for_float16_still_move_the_weights(tmp_path: Path) -> None:
    before = toy().get_layer("hidden").get_weights()[0]
    after = toy_run(tmp_path, None, "mixed_float16", weight=1e-7, learning_rate=0.1)[0][0]
    assert np.abs(after - before).max() > 1e-4


def test_mixed_precision_trains_a_twin_of_the_network_with_a_scaled_loss() -> None:
    """Keras alone would not scale: its global policy is float32 again once the twin is built."""
    net = network.build(GAP, None, 16, seed=1, side=SIDE)
    net.freeze_all_but(1)
    model, twin = (one.training_model("block4_pool") for one in (net, net.in_mixed_precision()))
    assert keras.mixed_precision.global_policy().name == "float32"
    assert [layer.trainable for layer in twin.layers] == [layer.trainable for layer in model.layers]
    assert {layer.compute_dtype for layer in twin.layers if layer.name.startswith("block5_conv")} == {"float16"}
    batch = np.random.default_rng(0).random((4, 4, 4, 512)).astype(np.float32)
    assert np.allclose(twin.predict(batch, verbose=0), model.predict(batch, verbose=0), atol=5e-3)
    fit.compiled(twin, GAP, phase(), 5)
    assert isinstance(twin.optimizer, keras.optimizers.LossScaleOptimizer)


def test_features_are_float32_and_int8_whatever_fine_tuning_computes_in(tmp_path: Path) -> None:
    """The twin takes nothing from its network: the int8 converter knows no float16 convolution."""
    net = network.build(GAP, None, 16, seed=1, side=SMALLEST)
    net.in_mixed_precision()
    for engine in ("keras", "int8"):
        found = features.compute(
            feature_trunk(net, ("embedding",), engine), pixels(2)[:, :SMALLEST, :SMALLEST], tmp_path, "films", Stop()
        )
        assert found["embedding"].dtype == np.float32
    assert net.points["block5_pool"].dtype == "float32"


def test_what_the_twin_learned_is_in_the_network_that_is_exported(tmp_path: Path) -> None:
    net = network.build(GAP, None, 16, seed=1, side=SMALLEST)
    rows, films = np.arange(2), pixels(2)[:, :SMALLEST, :SMALLEST]
    dataset = SimpleNamespace(rows={"train": rows, "tune": rows}, train=SimpleNamespace(labels=labels(2), pixels=films))
    ours = Context(Container(tmp_path), Hyperparameters(fine_tune_epochs=1, fine_tune_learning_rate=1e-3))
    net.freeze_all_but(1)
    trunk = feature_trunk(net, ("block4_pool",), "keras")
    inputs = features.compute(trunk, films, tmp_path, "films", Stop())["block4_pool"]
    before = net.whole().get_layer("block5_conv3").get_weights()[0]
    phases = learning._Phases(ours, dataset, net, Checkpoints(tmp_path, "f"))  # type: ignore[arg-type]
    state = phases.train("fine_tune", [inputs], "block4_pool", mixed=True)
    after = net.whole().get_layer("block5_conv3").get_weights()[0]
    assert np.abs(after - before).max() > 1e-4
    learned = net.training_model("block4_pool").get_weights()
    assert all(np.array_equal(one, two) for one, two in zip(learned, state.best, strict=True))


def test_a_resumed_fine_tuning_still_knows_the_history_of_the_head(tmp_path: Path) -> None:
    toy_run(tmp_path, None, epochs=2)
    with pytest.raises(Stopped):
        toy_run(tmp_path, 1, name="fine_tune", epochs=3)
    toy_run(tmp_path, None, name="fine_tune", epochs=3)
    state = Checkpoints(tmp_path, "f").load()
    assert state and {name: len(epochs) for name, epochs in state.histories().items()} == {"head": 2, "fine_tune": 3}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    one, two = (toy_run(tmp_path / name, None)[0] for name in "ab")
    other, _ = toy_run(tmp_path / "c", None, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_loss_that_is_no_number_names_the_rate_to_lower(tmp_path: Path) -> None:
    with pytest.raises(fit.Diverged, match=r"after epoch 1 at a learning rate of 0.001; lower learning_rate"):
        toy_run(tmp_path, None, weight=float("nan"))
    assert Checkpoints(tmp_path, "f").load() is None, "no state worth going on from"


def test_a_stop_during_an_epochs_last_batch_keeps_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = fit._BetweenBatches.on_train_batch_end

    def asked_after_the_last(between: fit._BetweenBatches, batch: int, logs: dict | None = None) -> None:
        ended(between, batch, logs)
        between._stop.asked = batch == 4

    monkeypatch.setattr(fit._BetweenBatches, "on_train_batch_end", asked_after_the_last)
    with pytest.raises(Stopped):
        toy_run(tmp_path, None)
    state = Checkpoints(tmp_path, "f").load()
    assert state and state.epoch == 1


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    _, lines = toy_run(tmp_path, None, learning_rate=1.0, patience=1)
    state = Checkpoints(tmp_path, "f").load()
    assert state is not None
    losses = [entry["tune"] for entry in state.history]
    assert state.best_loss == min(losses) == losses[state.best_epoch - 1]
    assert len(lines) < 6 and len(lines) == state.best_epoch + 1


def test_a_checkpoint_of_another_job_is_not_taken_up(tmp_path: Path) -> None:
    toy_run(tmp_path, None)
    assert Checkpoints(tmp_path, "other").load() is None


def test_both_classes_weigh_the_same() -> None:
    y = np.array([0, 1, 1, 1])
    weights = fit.class_weights(y)
    assert weights[y == 0].sum() == pytest.approx(weights[y == 1].sum()) and weights.mean() == pytest.approx(1.0)


def test_the_rate_warms_up_peaks_and_ends_near_zero() -> None:
    rates = [float(fit.schedule(phase(epochs=5, learning_rate=0.01), 10)(step)) for step in range(51)]
    assert rates[0] == pytest.approx(0.001) and max(rates) == pytest.approx(0.01) and rates[-1] < 1e-4
    assert float(fit.schedule(phase(epochs=1, learning_rate=0.01), 10)(9)) == pytest.approx(0.01)


def test_augmentation_is_the_same_for_the_same_seed_and_never_mirrors_gap() -> None:
    films = pixels(3)
    one, two = (np.stack(list(augment.augmented(films, GAP.augmentation, 7, 1))) for _ in range(2))
    other = np.stack(list(augment.augmented(films, GAP.augmentation, 7, 2)))
    assert np.array_equal(one, two) and not np.array_equal(one, other) and one.dtype == np.uint8
    assert not GAP.augmentation.flip and FLATTEN.augmentation.flip and FLATTEN.augmentation.shear_degrees > 0


def test_an_augmentation_without_any_reach_changes_nothing() -> None:
    film = pixels(1)[0]
    from training_job.heads import Augmentation

    assert np.array_equal(augment.vary(film, Augmentation(), np.random.default_rng(0)), film)
