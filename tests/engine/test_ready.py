"""Maps of a run like the one before: the same as a fresh engine's, whatever came in between."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_explaining import CLASSES, SIDE, HandMade
from onnxcam import Engine, Stream, compiled
from onnxcam.errors import InputError

RANDOM = np.random.default_rng(4)
MADE = HandMade()


def tensors(count: int) -> np.ndarray:
    return RANDOM.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("emit", ["gradient", "weights", "heatmap"])
def test_any_order_of_calls(emit):
    made = MADE.but(emit=emit)
    engine = Engine(made.bytes())
    kinds = [{}, {"signed": True}, {"method": "layercam"}]
    kinds = kinds if emit == "gradient" else kinds[:2] if emit == "weights" else kinds[:1]
    same = tensors(2)
    for turn in range(40):
        kind = kinds[RANDOM.integers(len(kinds)) if turn % 5 == 4 else turn // 10 % len(kinds)]
        tensor = (same, tensors(2), tensors(2), tensors(3))[RANDOM.integers(4) if turn > 8 else 1]
        targets = RANDOM.integers(-1, CLASSES, len(tensor))
        expected = Engine(made.bytes()).maps(tensor, targets, **kind)
        out = np.full_like(expected, np.nan) if turn % 2 else None
        found = engine.maps(tensor, targets, out=out, **kind)
        assert out is None or found is out
        np.testing.assert_array_equal(found, expected)


def test_a_tensor_changed_in_place():
    """An input that stays where it was is read anew."""
    engine, tensor = Engine(MADE.bytes()), tensors(1)
    for _ in range(4):
        tensor[:] = tensors(1)
        expected = Engine(MADE.bytes()).maps(tensor.copy(), 1)
        np.testing.assert_array_equal(engine.maps(tensor, 1), expected)


def test_results_are_not_overwritten():
    engine = Engine(MADE.bytes())
    several = tensors(6)
    found = [engine.maps(each[None], 2) for each in several]
    expected = Engine(MADE.bytes()).maps(several, 2)
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


def test_a_wrong_out():
    engine = Engine(MADE.bytes())
    for _ in range(3):
        engine.maps(tensors(1))
    for wrong in (np.zeros((1, SIDE, SIDE)), np.zeros((2, SIDE, SIDE), np.float32)):
        with pytest.raises(InputError, match="out"):
            engine.maps(tensors(1), out=wrong)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("emit", ["gradient", "weights", "heatmap"])
def test_explain_and_its_results(emit):
    """Each the same as a fresh engine's, and so it stays while others are made."""
    made = MADE.but(emit=emit)
    engine = Engine(made.bytes())
    found = [engine.explain(picture(seed), seed % CLASSES) for seed in range(6)]
    for seed, result in enumerate(found):
        expected = Engine(made.bytes()).explain(picture(seed), seed % CLASSES)
        for name in ("map", "raw", "scores", "probabilities"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
        assert result.diagnosis == expected.diagnosis
        for name, value in expected.outputs.items():
            np.testing.assert_array_equal(result.outputs[name], value)
    arrays = [each for r in found for each in (r.map, r.raw, r.scores, *r.outputs.values())]
    for k, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[:k])


def test_nothing_is_kept_of_a_batch():
    engine = Engine(MADE.bytes())
    for _ in range(2):
        engine.explain([picture(seed) for seed in range(5)])
    workspace = engine._spare[-1]
    assert not workspace.buffers._arrays and not workspace.binding.outputs


def test_it_is_made_ready_once(monkeypatch):
    """Whatever is asked for by turns."""
    if compiled.origin() == "jit":
        pytest.skip("calls are prepared for the library only")
    engine, made = Engine(MADE.bytes()), []
    prepare = compiled.prepare
    monkeypatch.setattr(compiled, "prepare", lambda *a: made.append(a) or prepare(*a))
    for _ in range(4):
        engine.maps(tensors(1))
        engine.maps(tensors(1), method="layercam")
        engine.maps(tensors(1), signed=True)
    assert len(made) == 3
    stream = Stream(engine)
    for seed in range(4):
        stream.explain(picture(seed))
    for seed in range(4):
        engine.explain(picture(seed))
    assert len(made) == 5
