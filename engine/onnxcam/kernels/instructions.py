"""Instructions that LLVM does not find by itself.

Some operations are LLVM functions of their own whose bodies say in plain arithmetic what they do
(`byte_lanes`, `pixel_lanes`). Here are bodies of the same meaning for machines that have an
instruction for them: `onnxcam.native.codegen` puts them in place of the plain ones when it builds
the library, and Numba compiles them where it compiles for the machine it runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config

MIX = "onnxcam.mix_bytes"
ROUNDED_PRODUCT = "onnxcam.rounded_product"
PAIR_PRODUCTS = "onnxcam.pair_products"
PACK = "onnxcam.pack"
LOOK_UP = "onnxcam.look_up"
AT_ONCE = "onnxcam.at_once"
CLIP_EIGHTS = "onnxcam.clip_eights"

Build = Callable[..., Any]
_I1, _I8, _I16, _I32 = (ir.IntType(bits) for bits in (1, 8, 16, 32))


def vector(kind: Any, lanes: int) -> Any:
    """The type of so many lanes."""
    return ir.VectorType(kind, lanes)


_BYTES, _WORDS, _PRODUCTS = vector(_I8, 64), vector(_I16, 32), vector(_I16, 64)
TYPES: dict[str, Any] = {
    MIX: ir.FunctionType(_BYTES, [_BYTES, _BYTES, _WORDS, _WORDS]),
    ROUNDED_PRODUCT: ir.FunctionType(_PRODUCTS, [_PRODUCTS, _PRODUCTS]),
    PAIR_PRODUCTS: ir.FunctionType(vector(_I32, 8), [vector(_I16, 16), vector(_I16, 16)]),
    PACK: ir.FunctionType(vector(_I8, 32), [vector(_I32, 8)] * 4),
    LOOK_UP: ir.FunctionType(_BYTES, [_BYTES] * 5),
    AT_ONCE: ir.FunctionType(_I1, []),
    CLIP_EIGHTS: ir.FunctionType(_BYTES, [_WORDS, _WORDS]),
}


def call(builder: Any, name: str, plain: Build, operands: Iterable[Any]) -> Any:
    """Call the function of that name; its body is `plain` until `codegen` gives it another."""
    special = dict(_of_this_machine()).get(name)
    if special:
        return special(builder, *operands)
    function = cgutils.get_or_insert_function(builder.module, TYPES[name], name)
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("inlinehint")  # `alwaysinline` would leave codegen nothing
        inner = ir.IRBuilder(function.append_basic_block())
        inner.ret(plain(inner, *function.args))
    return builder.call(function, list(operands))


def bodies(triple: str, features: str) -> Iterator[tuple[str, Build]]:
    """The functions for which a machine has instructions, and what they become there."""
    if triple.startswith("wasm"):
        yield PAIR_PRODUCTS, _by_dot
        yield ROUNDED_PRODUCT, _by_eights("llvm.wasm.q15mulr.sat.signed")
        yield PACK, _packed("wasm.narrow.signed.v8i16.v4i32", "wasm.narrow.unsigned.v16i8.v8i16")
    elif triple.startswith(("aarch64", "arm64")):
        yield ROUNDED_PRODUCT, _by_eights("llvm.aarch64.neon.sqrdmulh.v8i16")
    elif "+avx2" in features:
        wide = "+avx512vbmi" in features
        yield MIX, _by_avx512 if wide else _by_avx2
        if wide:
            yield CLIP_EIGHTS, _clipped_by_avx512
            yield LOOK_UP, _by_vbmi
            yield AT_ONCE, lambda builder: _I1(1)
        yield PACK, _packed("x86.avx2.packssdw", "x86.avx2.packuswb", registers=1)
    elif triple.startswith("x86_64"):
        yield ROUNDED_PRODUCT, _by_sse2
        yield PACK, _packed("x86.sse2.packssdw.128", "x86.sse2.packuswb.128")


def source(name: str, build: Build) -> str:
    """A body as LLVM source, to be inlined everywhere."""
    module = ir.Module()
    function = ir.Function(module, TYPES[name], name)
    function.linkage = "linkonce_odr"
    function.attributes.add("alwaysinline")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(build(builder, *function.args))
    return "\n".join(map(str, module.functions))


def _of_this_machine() -> Iterator[tuple[str, Build]]:
    if config.CPU_FEATURES is None:  # `native.build` sets it: its code is for no machine yet
        has = binding.get_host_cpu_features()
        features = ",".join(f"+{name}" for name in ("avx2", "avx512vbmi") if has.get(name))
        yield from bodies(binding.get_process_triple(), features)


def _intrinsic(builder: Any, name: str, result: Any, operands: Iterable[Any]) -> Any:
    operands = list(operands)
    kind = ir.FunctionType(result, [each.type for each in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


def picked(builder: Any, x: Any, y: Any, places: Iterable[int]) -> Any:
    """A vector of the elements of two, those of the second counted on from the first's."""
    mask = list(places)
    return builder.shuffle_vector(x, y, ir.Constant(vector(_I32, len(mask)), mask))


def joined(builder: Any, parts: list[Any]) -> Any:
    """Vectors of one type, 2, 4 or 8 of them, one behind the other."""
    while len(parts) > 1:
        places = range(2 * parts[0].type.count)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [picked(builder, *pair, places) for pair in pairs]
    return parts[0]


def _by_dot(builder: Any, x: Any, y: Any) -> Any:
    """WebAssembly's dot product of pairs, of eight numbers at a time."""
    parts = []
    for start in (0, 8):
        halves = [picked(builder, each, each, range(start, start + 8)) for each in (x, y)]
        parts.append(_intrinsic(builder, "llvm.wasm.dot", vector(_I32, 4), halves))
    return joined(builder, parts)


def _by_eights(name: str) -> Build:
    """An instruction that multiplies eight pairs of signed numbers and rounds."""

    def build(builder: Any, x: Any, factor: Any) -> Any:
        parts = []
        for start in range(0, 64, 8):
            eights = [picked(builder, v, v, range(start, start + 8)) for v in (x, factor)]
            parts.append(_intrinsic(builder, name, vector(_I16, 8), eights))
        return joined(builder, parts)

    return build


def _by_sse2(builder: Any, x: Any, factor: Any) -> Any:
    """The upper half of a product, and the highest bit of its lower one.

    LLVM does find the instruction, but not with a factor that stays the same in a loop.
    """
    twice = builder.add(x, x)
    high = _by_eights("llvm.x86.sse2.pmulhu.w")(builder, twice, factor)
    low = builder.lshr(builder.mul(twice, factor), ir.Constant(_PRODUCTS, [15] * 64))
    return builder.add(high, low)


def _by_avx2(builder: Any, picture: Any, colors: Any, pair: Any, factor: Any) -> Any:
    """Bytes of picture and colours side by side; AVX2 does all of this 16 bytes at a time."""
    sixteen, register = vector(_I16, 16), vector(_I8, 32)
    # The same number in every lane: half of them will do.
    weights, scale = (picked(builder, each, each, range(16)) for each in (pair, factor))
    weights = builder.bitcast(weights, register)
    halves = []
    for half in (0, 32):
        parts = []
        for start in (half, half + 8):
            places = [*range(start, start + 8), *range(start + 16, start + 24)]
            mixed = picked(builder, picture, colors, (at + k for at in places for k in (0, 64)))
            total = _intrinsic(builder, "llvm.x86.avx2.pmadd.ub.sw", sixteen, (mixed, weights))
            parts.append(_intrinsic(builder, "llvm.x86.avx2.pmul.hr.sw", sixteen, (total, scale)))
        halves.append(_intrinsic(builder, "llvm.x86.avx2.packuswb", register, parts))
    return joined(builder, halves)


def _by_avx512(builder: Any, picture: Any, colors: Any, pair: Any, factor: Any) -> Any:
    """The same in registers of twice the size."""
    starts = range(0, 64, 16)
    parts = []
    for start in (0, 8):
        places = [at + each for at in starts for each in range(start, start + 8)]
        mixed = picked(builder, picture, colors, (at + k for at in places for k in (0, 64)))
        operands = (mixed, builder.bitcast(pair, _BYTES))
        total = _intrinsic(builder, "llvm.x86.avx512.pmaddubs.w.512", _WORDS, operands)
        operands = (total, factor)
        parts.append(_intrinsic(builder, "llvm.x86.avx512.pmul.hr.sw.512", _WORDS, operands))
    return _intrinsic(builder, "llvm.x86.avx512.packuswb.512", _BYTES, parts)


def _clipped_by_avx512(builder: Any, lower: Any, upper: Any) -> Any:
    return _intrinsic(builder, "llvm.x86.avx512.packuswb.512", _BYTES, (lower, upper))


def _by_vbmi(builder: Any, indices: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Twice 64 bytes out of 128, and a choice by the highest bit of the index."""
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    low = _intrinsic(builder, name, _BYTES, (a, indices, b))
    high = _intrinsic(builder, name, _BYTES, (c, indices, d))
    upper = builder.icmp_signed("<", indices, ir.Constant(_BYTES, [0] * 64))
    return builder.select(upper, high, low)


def _packed(to_words: str, to_bytes: str, registers: int = 2) -> Build:
    """Two instructions that narrow and clip, each for two registers; 32 bytes in one or two."""

    def build(builder: Any, *sums: Any) -> Any:
        parts = []
        for start in range(0, 8, 8 // registers):
            places = range(start, start + 8 // registers)
            fours = [picked(builder, each, each, places) for each in sums]
            words = vector(_I16, 16 // registers)
            halves = [_intrinsic(builder, f"llvm.{to_words}", words, fours[:2])]
            halves.append(_intrinsic(builder, f"llvm.{to_words}", words, fours[2:]))
            kind = vector(_I8, 32 // registers)
            parts.append(_intrinsic(builder, f"llvm.{to_bytes}", kind, halves))
        return joined(builder, parts)

    return build
