"""Calls of the library's functions, made up from the table: what to call, with what, by whom."""

from __future__ import annotations

import ctypes
import functools
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam import kernels
from onnxcam.native import codes
from onnxcam.native.build import build_several
from onnxcam.native.interface import Function, functions, room
from onnxcam.native.table import TABLE, Array, Kernel, Number
from onnxcam.native.targets import TARGETS, host_target

SIDES = (1, 2, 3, 5, 7, 8, 15, 16, 17, 24, 31, 33, 48, 64, 65)


@dataclass(frozen=True)
class Call:
    """A call of a row's function: `values` has an array, None (null) or a number by argument.

    An array of a parameter with rows is the buffer [rows, stride] in bytes, its padding included.
    """

    kernel: Kernel
    values: dict[str, Any]
    code: int = 0

    def changed(self, code: codes.Code, **values: Any) -> Call:
        return replace(self, values={**self.values, **values}, code=code.number)

    def copied(self) -> Call:
        copies = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in self.values.items()}
        return replace(self, values=copies)

    @property
    def arrays(self) -> list[Any]:
        """Every array of the call (None for null) but work space, in order."""
        return [self.values[array.name] for array in arrays_of(self.kernel)]

    def python_values(self, work_space: bool = True) -> list[Any]:
        """What the kernel itself takes: arrays of the right shape over the buffers."""
        chosen = self.kernel.parameters if work_space else self.kernel.visible
        return [self._python_value(each) for each in chosen]

    def _python_value(self, each: Any) -> Any:
        if not isinstance(each, Array):
            return self.values[each.name]
        shape = shape_of(each, {name: self.values[name] for name in self.kernel.size_names})
        if each.role == "scratch":
            return np.full(shape, 77, each.dtype)
        value = self.values[each.name]
        if not each.rows:
            return value.reshape(shape)
        tight = np.empty((1, *shape[1:]), each.dtype).strides
        return np.ndarray(shape, each.dtype, value, 0, (value.shape[1], *tight[1:]))


def arrays_of(kernel: Kernel) -> list[Array]:
    return [each for each in kernel.visible if isinstance(each, Array)]


def shape_of(array: Array, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(int(eval(str(side), {}, dict(sizes))) for side in array.shape)


def good_call(kernel: Kernel, random: np.random.Generator, **given: int) -> Call:
    """A call that succeeds, of random sizes but for those given."""
    limits = {name: (low, high) for name, low, high in kernel.sizes}
    while True:
        values: dict[str, Any] = {}
        for name in kernel.size_names:
            low, high = limits.get(name, (1, math.inf))
            values[name] = int(random.choice([side for side in SIDES if low <= side <= high]))
        values |= given
        for each in kernel.parameters:
            if isinstance(each, Number):
                values[each.name] = _number(each, random)
        conditions = [*kernel.conditions]
        conditions += [f"({array.highest}) >= 0" for array in kernel.arrays if array.highest]
        if all(eval(condition, {}, values) for condition in conditions):
            break
    for array in arrays_of(kernel):
        shape = shape_of(array, values)
        content = _content(array, shape, random)
        if array.highest:
            highest = eval(array.highest, {}, values)
            content = np.sort(random.integers(0, highest, shape, array.dtype, endpoint=True))
        if array.rows:
            row = content.nbytes // shape[0]
            stride = row + int(random.integers(0, 9)) * content.itemsize
            buffer = random.integers(0, 256, (shape[0], stride), np.uint8)
            buffer[:, :row] = content.reshape(shape[0], -1).view(np.uint8)
            values[array.name], values[f"{array.name}_stride"] = buffer, stride
        else:
            values[array.name] = content
    if kernel.scratch:
        sizes = {name: values[name] for name in kernel.size_names}
        values["scratch_size"] = int(eval(room(kernel), {}, sizes))
        values["scratch"] = np.full(values["scratch_size"], 99, np.uint8)
    return Call(kernel, values)


def _number(number: Number, random: np.random.Generator) -> float | int:
    low, high = max(number.low, -40), min(number.high, 90)
    if number.dtype.startswith("float"):
        return float(random.uniform(low, high))
    return int(random.integers(int(low), int(high) + 1))


def _content(array: Array, shape: tuple[int, ...], random: np.random.Generator) -> Any:
    dtype = np.dtype(array.dtype)
    if dtype.kind == "f":
        return random.normal(0.2, 1, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def calm(call: Call, random: np.random.Generator) -> Call:
    """The same with a map and colours that change slowly: overlays interpolate some rows then."""
    values = dict(call.values)
    values["values"] = np.float32(0.5 + 0.02 * random.random(values["values"].shape))
    if "table" in values:
        values["table"] = np.uint8(np.arange(256)[:, None] * random.random(3))
    return replace(call, values=values)


def large(kernel: Kernel, random: np.random.Generator, blend: int, channels: int) -> Call:
    """Such a call of `overlay_colors`, with pixels enough that it is worth while there."""
    sizes = {"height": 97, "width": 1361, "map_height": 3}
    sizes |= {"channels": channels, "painted": channels}
    call = calm(good_call(kernel, random, **sizes), random)
    numbers = {"left": 0.0, "top": 0.0, "right": 1361.0, "bottom": 97.0, "first": 0, "last": 97}
    return replace(call, values={**call.values, **numbers, "blend": blend, "bicubic": 0})


def bad_calls(kernel: Kernel, random: np.random.Generator) -> Iterator[Call]:
    """A good call with one thing wrong, for everything that can be wrong."""
    good = good_call(kernel, random)
    limits = {name: (low, high) for name, low, high in kernel.sizes}
    for name in kernel.size_names:
        low, high = limits.get(name, (1, None))
        for wrong in (low - 1, -1, *(() if high is None else (high + 1,))):
            yield good.changed(codes.SIZE, **{name: wrong})
    if kernel.scratch:
        yield good.changed(codes.NULL, scratch=None)
        yield good.changed(codes.SCRATCH, scratch_size=good.values["scratch_size"] - 1)
    for each in kernel.visible:
        if isinstance(each, Array):
            yield from _bad_arrays(good, each)
        elif each.dtype.startswith("float"):
            for wrong in (math.nan, math.inf, -math.inf):
                yield good.changed(codes.VALUE, **{each.name: wrong})
        else:
            for wrong in (each.low - 1, each.high + 1):
                if abs(wrong) < 2**31:
                    yield good.changed(codes.VALUE, **{each.name: int(wrong)})
    for condition in kernel.conditions:
        found = re.fullmatch(r"(\w+) <=? (\w+)", condition)
        if found and isinstance(good.values[found[2]], float):
            yield good.changed(codes.VALUE, **{found[1]: good.values[found[2]] + 1.0})


def _bad_arrays(good: Call, array: Array) -> Iterator[Call]:
    yield good.changed(codes.NULL, **{array.name: None})
    value = good.values[array.name]
    if array.finite:
        for wrong in (np.nan, np.inf, -np.inf):
            for place in (0, value.size - 1):
                spoilt = value.copy()
                spoilt.flat[place] = wrong
                yield good.changed(codes.FINITE, **{array.name: spoilt})
    if array.highest:
        highest = eval(array.highest, {}, good.values)
        for wrong in (-1, highest + 1):
            spoilt = value.copy()
            spoilt[-1] = wrong
            yield good.changed(codes.VALUE, **{array.name: spoilt})
    if array.rows:
        row = good.python_values(False)[good.kernel.visible.index(array)][0].nbytes
        for wrong in (row - 1, 0, -row):
            yield good.changed(codes.STRIDE, **{f"{array.name}_stride": wrong})


@functools.cache
def calls(per_row: int = 6, bad: bool = True) -> list[Call]:
    """Good and bad calls of every row; the same ones every time."""
    random = np.random.default_rng(11)
    found = []
    for kernel in TABLE:
        found += [good_call(kernel, random) for _ in range(per_row)]
        if kernel.name.startswith("overlay"):
            found += [calm(good_call(kernel, random), random) for _ in range(per_row)]
        if {"channels", "positions"} <= set(kernel.size_names):  # compiled for 49 (weighted_sum.py)
            found.append(good_call(kernel, random, channels=17, positions=49))
            few = {name: 2 for name in ("images", "targets") if name in kernel.size_names}
            found.append(good_call(kernel, random, channels=531, positions=49, **few))
        if kernel.name == "overlay_colors":
            found += [large(kernel, random, *way) for way in ((0, 3), (1, 4), (3, 3))]
        found += list(bad_calls(kernel, random)) if bad else []
    return found


def by_jit(call: Call) -> list[Any]:
    """The arrays after Numba has run the kernel."""
    call = call.copied()
    getattr(kernels, call.kernel.name)(*call.python_values())
    return call.arrays


C_TYPES = {
    "int16": ctypes.c_int16,
    "uint16": ctypes.c_uint16,
    "int32": ctypes.c_int32,
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
    "size": ctypes.c_ssize_t,
}


def prototype(library: Any, function: Function) -> Any:
    """The C function itself, as ctypes has it: what another language calls."""
    found = ctypes.CDLL(str(library.path))[function.name]
    found.argtypes = [
        ctypes.c_void_p if each.kind in ("pointer", "scratch") else C_TYPES[each.dtype]
        for each in function.arguments
    ]
    found.restype = C_TYPES[function.returns]
    return found


def by_library(library: Any, call: Call) -> tuple[int, list[Any]]:
    """The error code, and the arrays after the library has run the kernel, through ctypes."""
    call = call.copied()
    function = next(functions(call.kernel))
    given = (call.values[each.name] for each in function.arguments)
    plain = [each.ctypes.data if isinstance(each, np.ndarray) else each for each in given]
    return prototype(library, function)(*plain), call.arrays


def same(found: Any, expected: Any, array: Array) -> bool:
    """Bit for bit, save that one NaN is as good as another."""
    if found is None:
        return expected is None
    if np.dtype(array.dtype).kind == "f" and not array.rows:
        number = ~np.isnan(expected)
        if not np.array_equal(np.isnan(found), ~number):
            return False
        found, expected = found[number], expected[number]
    return found.tobytes() == expected.tobytes()


# A call as bytes, for programs in other languages: the row's number, then every argument as its
# length in bytes (int64, -1 for null) and its bytes; numbers and sizes as one float64 or int64.
# Answer: the error code (int32), then every array in the same way.


def encoded(found: list[Call]) -> bytes:
    parts = []
    for call in found:
        parts.append(np.int64(TABLE.index(call.kernel)).tobytes())
        for argument in next(functions(call.kernel)).arguments:
            value = call.values[argument.name]
            if argument.kind not in ("pointer", "scratch"):
                kind = np.float64 if argument.dtype.startswith("float") else np.int64
                parts.append(kind(value).tobytes())
            elif value is None:
                parts.append(np.int64(-1).tobytes())
            else:
                parts += [np.int64(value.nbytes).tobytes(), value.tobytes()]
    return b"".join(parts)


def decoded(answer: bytes, found: list[Call]) -> Iterator[tuple[int, list[Any]]]:
    place = 0

    def take(dtype: Any, count: int = 1) -> Any:
        nonlocal place
        values = np.frombuffer(answer, dtype, count, place)
        place += values.nbytes
        return values

    for call in found:
        code = int(take(np.int32)[0])
        arrays: list[Any] = []
        for value in call.arrays:
            length = int(take(np.int64)[0])
            if length < 0:
                arrays.append(None)
                continue
            assert length == value.nbytes
            arrays.append(take(value.dtype, value.size).reshape(value.shape))
        yield code, arrays
    assert place == len(answer)


def c_program() -> str:
    """C source of a program that answers calls; every array in a block of just its size."""
    parts = [_C_HEAD]
    for i, kernel in enumerate(TABLE):
        function = next(functions(kernel))
        lines = [f"static void run{i}(void) {{"]
        for each in function.arguments:
            if each.kind in ("pointer", "scratch"):
                lines.append(f"    Block {each.name} = block();")
            else:
                number = each.dtype.startswith("float")
                lines.append(f"    {'double' if number else 'int64_t'} {each.name};")
                lines.append(f"    get(&{each.name}, 8);")
        given = ", ".join(
            f"{each.name}.data" if each.kind in ("pointer", "scratch") else each.name
            for each in function.arguments
        )
        lines.append(f"    int32_t code = {function.name}({given});\n    put(&code, 4);")
        lines += [f"    answer({array.name});" for array in arrays_of(kernel)]
        lines += ["    free(scratch.data);"] if kernel.scratch else []
        parts.append("\n".join([*lines, "}"]))
    runs = ", ".join(f"run{i}" for i in range(len(TABLE)))
    return "\n".join([*parts, f"static void (*const runs[])(void) = {{{runs}}};", _C_MAIN])


_C_HEAD = """
#include <stdio.h>
#include <stdlib.h>
#include "onnxcam.h"
typedef struct { int64_t length; void *data; } Block;
static void get(void *to, size_t size) {
    if (fread(to, 1, size, stdin) != size) { fputs("short read\\n", stderr); exit(3); }
}
static void put(const void *from, size_t size) { fwrite(from, 1, size, stdout); }
static Block block(void) {
    Block b = {0, NULL};
    get(&b.length, 8);
    if (b.length >= 0) { b.data = malloc((size_t)b.length); get(b.data, (size_t)b.length); }
    return b;
}
static void answer(Block b) {
    put(&b.length, 8);
    if (b.length >= 0) put(b.data, (size_t)b.length);
    free(b.data);
}
"""
_C_MAIN = """
int main(void) {
    int64_t row;
    while (fread(&row, 1, 8, stdin) == 8) runs[row]();
    return 0;
}
"""


def javascript_rows() -> str:
    """What the JavaScript program has to know of the rows, as JSON."""
    rows = []
    for kernel in TABLE:
        function = next(functions(kernel))
        given = [[each.kind, each.dtype] for each in function.arguments]
        rows.append({"name": function.name, "arguments": given})
    return json.dumps(rows)


JAVASCRIPT = """
import fs from "node:fs";
const [library, rowsFile, callsFile, answerFile] = process.argv.slice(2);
const rows = JSON.parse(fs.readFileSync(rowsFile, "utf8"));
const calls = fs.readFileSync(callsFile);
const {instance} = await WebAssembly.instantiate(fs.readFileSync(library), {});
const {memory, __heap_base} = instance.exports;
const answer = [];
let place = 0;
const word = () => { const w = calls.readBigInt64LE(place); place += 8; return Number(w); };
while (place < calls.length) {
  const row = rows[word()];
  let free = __heap_base.value;
  const given = [], blocks = [];
  for (const [kind, dtype] of row.arguments) {
    if (kind !== "pointer" && kind !== "scratch") {
      if (dtype.startsWith("float")) { given.push(calls.readDoubleLE(place)); place += 8; }
      else given.push(word());
      continue;
    }
    const length = word();
    const shown = kind === "pointer";
    if (length < 0) { given.push(0); if (shown) blocks.push([0, length]); continue; }
    free = (free + 63) & ~63;
    const missing = free + length - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536));
    new Uint8Array(memory.buffer).set(calls.subarray(place, place + length), free);
    place += length;
    given.push(free);
    if (shown) blocks.push([free, length]);
    free += length;
  }
  const code = Buffer.alloc(4);
  code.writeInt32LE(instance.exports[row.name](...given));
  answer.push(code);
  for (const [at, length] of blocks) {
    const size = Buffer.alloc(8);
    size.writeBigInt64LE(BigInt(length));
    answer.push(size);
    if (length > 0) answer.push(Buffer.from(memory.buffer.slice(at, at + length)));
  }
}
fs.writeFileSync(answerFile, Buffer.concat(answer));
"""


_LIBRARIES: dict[str, Path] = {}


def built(target: str, tmp_path_factory: Any) -> Path:
    """The library for a target, built once in a run of the tests; the foreign ones all at once."""
    if target not in _LIBRARIES:
        host = host_target()
        own = host is not None and target == host.name
        wanted = [row for row in TARGETS.values() if (row == host) == own]
        found = build_several({row: tmp_path_factory.mktemp(row.name) for row in wanted})
        _LIBRARIES.update({row.name: library for row, (library, _) in found.items()})
    return _LIBRARIES[target]


def run(command: list[Any], **options: Any) -> Any:
    """Run a program; its stdout, in bytes. A failure shows what it wrote to stderr."""
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr.decode()[-3000:]}"
    return done.stdout


def zig(*arguments: Any) -> list[Any]:
    return [sys.executable, "-m", "ziglang", *arguments]


def wasm_answer(library: Path, found: list[Call], folder: Path) -> bytes:
    """Node's answer to the calls."""
    (folder / "calls.bin").write_bytes(encoded(found))
    (folder / "rows.json").write_text(javascript_rows())
    (folder / "run.mjs").write_text(JAVASCRIPT)
    names = ("run.mjs", "rows.json", "calls.bin", "answer.bin")
    program, rows, given, answer = (folder / name for name in names)
    run(["node", program, library, rows, given, answer])
    return answer.read_bytes()
