"""Engine.maps over and over: the same memory, many threads, nothing lost, nothing mixed up."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest

from helpers_explaining import SIDE, HandMade
from onnxcam import Engine
from onnxcam.binding import Binding
from onnxcam.errors import ModelError, TargetError
from onnxcam.session import Session

MADE = HandMade()
RANDOM = np.random.default_rng(2)


def tensors(*shapes):
    return [RANDOM.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.fixture
def engine():
    return Engine(MADE.bytes())


@pytest.mark.parametrize("emit", ["gradient", "weights", "heatmap"])
def test_earlier_maps_stay_as_they_are(emit):
    engine = Engine(MADE.but(emit=emit).bytes())
    batches = tensors(*[(2, 3, SIDE, SIDE)] * 5)
    found = [engine.maps(batch, 3) for batch in batches]
    kept = [maps.copy() for maps in found]
    for batch, maps, copy in zip(batches, found, kept, strict=True):
        np.testing.assert_array_equal(maps, copy)
        np.testing.assert_array_equal(Engine(MADE.but(emit=emit).bytes()).maps(batch, 3), copy)


def test_shapes_by_turns(engine):
    fresh = [Engine(MADE.bytes()) for _ in range(3)]
    batches = tensors((1, 3, SIDE, SIDE), (4, 3, SIDE, SIDE), (2, 3, SIDE, SIDE))
    for _ in range(3):
        for other, batch in zip(fresh, batches, strict=True):
            for signed in (False, True):
                expected = other.maps(batch, 1, signed=signed)
                np.testing.assert_array_equal(engine.maps(batch, 1, signed=signed), expected)


def test_after_a_failed_run(engine):
    (batch,) = tensors((2, 3, SIDE, SIDE))
    expected = engine.maps(batch, [0, 1])
    for _ in range(2):
        with pytest.raises(TargetError):
            engine.maps(batch, [0, 99])
        np.testing.assert_array_equal(engine.maps(batch, [0, 1]), expected)


def test_a_binding_runs_into_the_same_arrays():
    session = Session(MADE.bytes())
    binding = Binding(session)
    names = ["cam_activation", "cam_gradient", "scores"]
    feeds = [
        {"picture": tensor, "cam_target": np.array([target])}
        for target, tensor in enumerate(tensors(*[(1, 3, SIDE, SIDE)] * 4))
    ]
    found = [binding.run(feed, names) for feed in feeds]
    assert found[1]["scores"] is found[2]["scores"]
    assert found[2]["scores"] is found[3]["scores"]
    for feed in feeds:
        expected = session.run(feed, names)
        for name, value in binding.run(feed, names).items():
            np.testing.assert_array_equal(value, expected[name])
    wrong = {"picture": feeds[0]["picture"], "cam_target": np.array([99])}
    with pytest.raises(ModelError, match="running the model failed"):
        binding.run(wrong, names)
    np.testing.assert_array_equal(
        binding.run(feeds[0], names)["scores"], session.run(feeds[0], names)["scores"]
    )


def test_outputs_whose_shape_depends_on_values():
    """Such a model can't be bound: it runs as before, each time with the right result."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "places",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    binding = Binding(Session(model.SerializeToString()))
    for x in ([0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1]):
        x = np.array(x, np.float32)
        np.testing.assert_array_equal(binding.run({"x": x}, ["y"])["y"], [np.flatnonzero(x)])


def test_tensors_are_let_go(engine):
    """The engine keeps its own memory, not its caller's."""
    for _ in range(3):
        (batch,) = tensors((1, 3, SIDE, SIDE))
        engine.maps(batch)
    alive = weakref.ref(batch)
    del batch
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("emit", ["gradient", "weights"])
def test_no_array_a_frame(emit, signed):
    """With `out` nothing but small objects: no activation, no gradient, no map."""
    engine = Engine(MADE.but(emit=emit).bytes())
    (batch,) = tensors((256, 3, SIDE, SIDE))
    out = np.empty((256, SIDE, SIDE), np.float32)
    expected = engine.maps(batch, 1, signed=signed)
    targets = np.full(256, 1)
    for _ in range(3):
        engine.maps(batch, targets, signed=signed, out=out)
    tracemalloc.start()
    try:
        for _ in range(10):
            engine.maps(batch, targets, signed=signed, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(out, expected)
    # The maps are 36 KiB, activation and gradient 144 each.
    assert peak < out.nbytes / 2


def test_threads_run_side_by_side_with_different_batches(engine):
    batches = tensors(*[(n, 3, SIDE, SIDE) for n in (1, 2, 3, 1, 2, 3, 4, 4)])
    expected = [Engine(MADE.bytes()).maps(batch, 2) for batch in batches]
    wrong = []

    def work(i):
        out = np.empty_like(expected[i])
        for _ in range(50):
            engine.maps(batches[i], 2, out=out)
            if not np.array_equal(out, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= len(engine._spare) <= len(batches)


def test_memory_stays_flat_over_two_thousand_maps(tmp_path):
    """In a process of its own; `benchmarks/soak.py` does the same for 10,000."""
    path = tmp_path / "net.onnx"
    path.write_bytes(MADE.bytes())
    script = Path(__file__).parents[2] / "benchmarks" / "soak.py"
    command = [sys.executable, script, path, "--maps", "2000", "--threads", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
