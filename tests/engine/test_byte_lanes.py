"""Lane operations on bytes: what they compile to, in whatever instructions, is what they say."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import binding
from numba import njit
from numba.core import config

from onnxcam.kernels import byte_lanes, instructions, lanes, lookups
from onnxcam.native.targets import TARGETS

RANDOM = np.random.default_rng(6)
WEIGHTS = [(127, 1, 258), (64, 64, 512), (52, 60, 350), (0, 127, 258), (1, 1, 32767)]


def photo() -> np.ndarray:
    found = RANDOM.integers(0, 256, 128).astype(np.uint8)
    found[:6] = found[72:78] = 255, 0, 255, 0, 1, 254
    return found


def two(operation):
    def run(data, out):
        byte_lanes.store(out, 1, operation(byte_lanes.load(data, 2), byte_lanes.load(data, 64)))

    return run


def of_words(operation):
    def run(data, out):
        words = data.view(np.uint16)
        x, y = lanes.load(words, 0), lanes.load(words, 32)
        found = operation(lanes.right_signed(x, 6), lanes.right_signed(y, 6))
        byte_lanes.store(out, 0, found)

    return run


def to_words(operation):
    def run(data, out):
        low = lanes.fill(0x2121)
        lanes.store(out.view(np.uint16), 1, operation(byte_lanes.load(data, 3), low))

    return run


def eights(operation):
    def run(data, out):
        words = data.view(np.uint16)
        found = operation(lanes.load(words, 0), lanes.load(words, 32))
        lanes.store(out.view(np.uint16), 0, found)

    return run


def half(data, out):
    x = byte_lanes.load_half(data, 7)
    byte_lanes.store(out, 0, x)
    byte_lanes.store_half(out, 70, x)


def look_up(data, out):
    tables = np.zeros(256, np.uint8)
    for i in range(256):
        tables[i] = (i * 7 + int(data[i % 128])) % 256
    a, b = byte_lanes.load(tables, 0), byte_lanes.load(tables, 64)
    c, d = byte_lanes.load(tables, 128), byte_lanes.load(tables, 192)
    byte_lanes.store(out, 1, lookups.chosen(byte_lanes.load(data, 4), a, b, c, d))


def in_turn(operation):
    def run(data, out):
        x, y, z = byte_lanes.load(data, 0), byte_lanes.load(data, 64), byte_lanes.load(data, 30)
        byte_lanes.store(out, 0, operation(x, y, z))

    return run


def words(operation):
    def run(data, out):
        found = operation(byte_lanes.load(data, 0), byte_lanes.load(data, 64))
        lanes.store(out.view(np.uint16), 1, found)

    return run


def entries(data, out):
    table = data.view(np.int32)
    for x in range(16):
        byte_lanes.copy_entry(table, (5 * x) % 16, out, 3 * x + 1)


def filled(data, out):
    byte_lanes.store(out, 2, byte_lanes.fill(data[5] + 200))


def mixture(pair, factor):
    def run(data, out):
        under, color = byte_lanes.load(data, 0), byte_lanes.load(data, 64)
        byte_lanes.store(out, 0, byte_lanes.mix(under, color, lanes.fill(pair), lanes.fill(factor)))

    return run


def agree(run):
    compiled = njit(run)
    for _ in range(20):
        data, expected, found = photo(), np.zeros(128, np.uint8), np.zeros(128, np.uint8)
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
        *map(of_words, (byte_lanes.narrowed, byte_lanes.clipped, byte_lanes.clip_eights)),
        *map(to_words, (byte_lanes.widen_lower, byte_lanes.widen_upper)),
        *map(eights, (byte_lanes.lower_eights, byte_lanes.upper_eights)),
        *map(in_turn, (lookups.interleave_0, lookups.interleave_1, lookups.interleave_2)),
        *map(words, (lookups.words_0, lookups.words_1)),
        entries,
        filled,
        half,
        look_up,
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_arithmetic(run, plain, monkeypatch):
    """With this machine's instructions, and in the plain arithmetic that others get."""
    if plain:
        monkeypatch.setattr(config, "CPU_FEATURES", "")
    agree(run)


def test_eights_are_put_together_again():
    """What is widened and clipped again is in its place."""
    data = photo()[:64]
    widened = (
        byte_lanes.widen_lower(data, lanes.fill(0)),
        byte_lanes.widen_upper(data, lanes.fill(0)),
    )
    found = byte_lanes.clip_eights(*(lanes.right(each, 8) for each in widened))
    np.testing.assert_array_equal(found, data)
    parts = data[:32].astype(np.uint16), data[32:].astype(np.uint16)
    np.testing.assert_array_equal(byte_lanes.lower_eights(*parts), widened[0] >> 8)
    np.testing.assert_array_equal(byte_lanes.upper_eights(*parts), widened[1] >> 8)


def test_colours_of_many_pixels_in_turn():
    colors = RANDOM.integers(0, 256, (64, 3)).astype(np.uint8)
    parts = (lookups.interleave_0, lookups.interleave_1, lookups.interleave_2)
    found = [part(*colors.T) for part in parts]
    np.testing.assert_array_equal(np.concatenate(found), colors.reshape(-1))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("w", "v", "factor"), WEIGHTS)
def test_mixtures(w, v, factor, plain, monkeypatch):
    """With this machine's instructions, and in the plain arithmetic that others get."""
    if plain:
        monkeypatch.setattr(config, "CPU_FEATURES", "")
    agree(mixture(w | v << 8, factor))


def test_a_mixture_in_numbers():
    under, color = photo()[:64], photo()[64:]
    w, v, factor = 77, 40, 270
    found = byte_lanes.mix(under, color, lanes.fill(w | v << 8), lanes.fill(factor))
    exact = (under * float(w) + color * float(v)) * factor / 32768
    np.testing.assert_array_equal(found, np.floor(exact + 0.5).clip(0, 255))
    np.testing.assert_array_equal(
        byte_lanes.average(under, color), np.ceil((under.astype(int) + color) / 2)
    )


MACHINES = [
    (target.triple, features) for target in TARGETS.values() for _, features in target.variants
]


@pytest.mark.parametrize(("triple", "features"), MACHINES)
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
