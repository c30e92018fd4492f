"""Lane operations on bytes: what they compile to, in whatever instructions, is what they say."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import binding
from numba import njit
from numba.core import config

from onnxcam.kernels import byte_lanes, instructions, lanes

RANDOM = np.random.default_rng(6)
WEIGHTS = [(127, 1, 258), (64, 64, 512), (52, 60, 350), (0, 127, 258), (1, 1, 32767)]


def photo() -> np.ndarray:
    found = RANDOM.integers(0, 256, 64).astype(np.uint8)
    found[:6] = found[40:46] = 255, 0, 255, 0, 1, 254
    return found


def two(operation):
    def run(data, out):
        byte_lanes.store(out, 1, operation(byte_lanes.load(data, 2), byte_lanes.load(data, 32)))

    return run


def narrow(data, out):
    wide = lanes.add(lanes.widen_crossed(data, 3, lanes.fill(0)), lanes.fill(-20000))
    byte_lanes.store(out, 0, byte_lanes.narrowed(lanes.right_signed(wide, 6)))


def entries(data, out):
    table = data.view(np.int32)
    for x in range(16):
        byte_lanes.copy_entry(table, (5 * x) % 16, out, 3 * x + 1)


def filled(data, out):
    byte_lanes.store(out, 2, byte_lanes.fill(data[5] + 200))


def mixture(pair, factor):
    def run(data, out):
        under, color = byte_lanes.load(data, 0), byte_lanes.load(data, 32)
        byte_lanes.store(out, 0, byte_lanes.mix(under, color, lanes.fill(pair), lanes.fill(factor)))

    return run


def agree(run):
    compiled = njit(run)
    for _ in range(20):
        data, expected, found = photo(), np.zeros(64, np.uint8), np.zeros(64, np.uint8)
        with np.errstate(over="ignore"):
            run(data, expected)
        compiled(data, found)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "run",
    [
        two(byte_lanes.average),
        two(byte_lanes.subtract_to_zero),
        two(byte_lanes.smaller),
        two(byte_lanes.add_clipped),
        two(byte_lanes.with_fourths),
        entries,
        narrow,
        filled,
    ],
)
def test_arithmetic(run):
    agree(run)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("w", "v", "factor"), WEIGHTS)
def test_mixtures(w, v, factor, plain, monkeypatch):
    """With this machine's instructions, and in the plain arithmetic that others get."""
    if plain:
        monkeypatch.setattr(config, "CPU_FEATURES", "")
    agree(mixture(w | v << 8, factor))


def test_a_mixture_in_numbers():
    under, color = photo()[:32], photo()[32:]
    w, v, factor = 77, 40, 270
    found = byte_lanes.mix(under, color, lanes.fill(w | v << 8), lanes.fill(factor))
    exact = (under * float(w) + color * float(v)) * factor / 32768
    np.testing.assert_array_equal(found, np.floor(exact + 0.5).clip(0, 255))
    np.testing.assert_array_equal(
        byte_lanes.average(under, color), np.ceil((under.astype(int) + color) / 2)
    )


TARGETS = [
    ("x86_64-unknown-linux-gnu", ""),
    ("x86_64-unknown-linux-gnu", "+avx2"),
    ("aarch64-unknown-linux-gnu", ""),
    ("wasm32-unknown-unknown", "+simd128"),
]


@pytest.mark.parametrize(("triple", "features"), TARGETS)
def test_bodies_become_instructions(triple, features):
    """LLVM knows each intrinsic, and selects an instruction for it.

    (What the whole kernels give on each target is compared in test_native.)
    """
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(features=features)
    names = []
    for name, build in instructions.bodies(triple, features):
        text = instructions.source(name, build).replace("linkonce_odr", "")
        module = binding.parse_assembly(f'target triple = "{triple}"\n{text}')
        module.verify()
        assert "llvm." not in machine.emit_assembly(module).replace("llvm.metadata", "")
        names.append(name)
    assert names
