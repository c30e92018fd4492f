"""The library: built here, called from Python, C, aarch64 and WebAssembly, against Numba."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers_native import (
    arrays_of,
    built,
    by_jit,
    by_library,
    c_program,
    calls,
    decoded,
    encoded,
    good_call,
    prototype,
    run,
    same,
    wasm_answer,
    zig,
)
from onnxcam import kernels
from onnxcam.errors import InputError, OnnxcamError
from onnxcam.native import codes
from onnxcam.native.interface import functions
from onnxcam.native.link import public_names
from onnxcam.native.loader import Library, LibraryError
from onnxcam.native.table import INTERNAL, TABLE
from onnxcam.native.targets import TARGETS, find_target, host_target

pytest.importorskip("ziglang", reason="ziglang links the library")
ROWS = [pytest.param(kernel, id=kernel.name) for kernel in TABLE]
AARCH64_LIBC = Path("/usr/aarch64-linux-gnu")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    host = host_target()
    if host is None:
        pytest.skip("no target is this machine")
    return Library(built(host.name, tmp_path_factory))


@pytest.fixture(scope="module")
def variants(library):
    """The numbers of the variants that this processor runs."""
    found = [0]
    while True:
        try:
            library.set_variant(len(found))
        except InputError:
            return found
        found.append(len(found))


def check_answers(answers, found):
    for call, (code, arrays) in zip(found, answers, strict=True):
        assert code == call.code, call
        expected = by_jit(call) if call.code == 0 else call.arrays
        for array, one, other in zip(arrays_of(call.kernel), arrays, expected, strict=True):
            assert same(one, other, array), (call.kernel.name, array.name)


def test_every_kernel_has_a_row_or_a_reason():
    rows = {kernel.name for kernel in TABLE}
    assert rows | set(INTERNAL) == set(kernels.__all__)
    assert not rows & set(INTERNAL)


@pytest.mark.parametrize("kernel", ROWS)
def test_row_has_the_kernels_parameters(kernel):
    function = getattr(kernels, kernel.name).py_func
    assert list(inspect.signature(function).parameters) == [p.name for p in kernel.parameters]


@pytest.mark.parametrize("kernel", ROWS)
def test_same_as_numba_in_every_variant(kernel, library, variants):
    found = [call for call in calls(12, bad=False) if call.kernel is kernel]
    for variant in variants:
        library.set_variant(variant)
        assert library.variant == variant
        check_answers((by_library(library, call) for call in found), found)


@pytest.mark.parametrize("kernel", ROWS)
def test_bad_arguments_are_refused_and_nothing_is_written(kernel, library, variants):
    found = [call for call in calls(0) if call.kernel is kernel]
    assert len(found) >= 2
    for variant in variants:
        library.set_variant(variant)
        check_answers((by_library(library, call) for call in found), found)


@pytest.mark.parametrize("kernel", ROWS)
def test_misaligned_pointers_are_refused(kernel, library):
    call = good_call(kernel, np.random.default_rng(3)).copied()
    function = next(functions(kernel))
    for i, argument in enumerate(function.arguments):
        if argument.kind == "pointer" and np.dtype(argument.dtype).itemsize > 1:
            values = [call.values[each.name] for each in function.arguments]
            plain = [v.ctypes.data if isinstance(v, np.ndarray) else v for v in values]
            plain[i] += 1
            assert prototype(library, function)(*plain) == codes.ALIGNMENT.number


@pytest.mark.parametrize("kernel", ROWS)
def test_python_function_is_the_kernel(kernel, library):
    call = good_call(kernel, np.random.default_rng(5))
    given = call.copied()
    function = library.function(kernel)
    assert list(inspect.signature(function).parameters) == [each.name for each in kernel.visible]
    function(*given.python_values(work_space=False))
    for array, one, other in zip(arrays_of(kernel), given.arrays, by_jit(call), strict=True):
        assert same(one, other, array), array.name


@pytest.mark.parametrize("kernel", ROWS)
def test_python_function_refuses_wrong_arrays(kernel, library):
    call = good_call(kernel, np.random.default_rng(5)).copied()
    function = library.function(kernel)
    values = call.python_values(work_space=False)
    for i, each in enumerate(kernel.visible):
        if each not in arrays_of(kernel):
            continue
        wrong = {"another dtype": values[i].astype(np.complex64)}
        if each.role != "in":
            wrong["read-only"] = values[i].copy()
            wrong["read-only"].flags.writeable = False
        wrong["another shape"] = values[i][..., None]
        for name, value in wrong.items():
            with pytest.raises(InputError, match=rf"{kernel.name}: {each.name}: expected"):
                function(*values[:i], value, *values[i + 1 :])
            assert name


def test_python_function_copies_inputs_that_are_not_contiguous(library):
    kernel = next(row for row in TABLE if row.name == "channel_means")
    values = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    expected, out = np.empty((2, 5), np.float32)
    kernels.channel_means(np.ascontiguousarray(values.T), expected)
    library.function(kernel)(values.T, out)
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(InputError, match="not contiguous"):
        library.function(kernel)(values.T, np.empty(10, np.float32)[::2])


def test_error_code_becomes_an_exception(library):
    kernel = next(row for row in TABLE if row.name == "colorize")
    values = np.array([[1, np.nan]], np.float32)
    with pytest.raises(InputError, match=f"colorize: {codes.FINITE.text}"):
        library.function(kernel)(
            values, np.zeros((256, 3), np.uint8), np.empty((1, 2, 3), np.uint8)
        )


def test_unknown_kernel_numbers_are_refused(library):
    for number in (-1, len(TABLE)):
        with pytest.raises(InputError, match=f"call: {codes.VALUE.text}"):
            library._check(library._call(number, b""), "call")


def test_unknown_variants_are_refused(library, variants):
    for number in (-1, len(variants), 99):
        with pytest.raises(InputError, match=codes.VARIANT.text):
            library.set_variant(number)
    assert library.variant == variants[-1]


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not installed")
@pytest.mark.parametrize("target", ["x86_64-linux", "aarch64-linux"])
def test_symbols(target, tmp_path_factory):
    library = built(target, tmp_path_factory)
    undefined = run(["nm", "-D", "--undefined-only", library]).decode().split()
    assert undefined == []
    defined = run(["nm", "-D", "--defined-only", library]).decode().splitlines()
    assert sorted(line.split()[-1] for line in defined) == sorted(public_names())


@pytest.mark.parametrize("target", ["x86_64-macos", "aarch64-macos", "x86_64-windows"])
def test_links_for_machines_that_are_not_here(target, tmp_path_factory):
    library = built(target, tmp_path_factory).read_bytes()
    magic = b"MZ" if "windows" in target else b"\xcf\xfa\xed\xfe"
    assert library.startswith(magic)
    for name in public_names():
        assert name.encode() in library
    assert not TARGETS[target].tried


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_webassembly_is_the_same(tmp_path_factory, tmp_path):
    found = calls()
    answer = wasm_answer(built("wasm32", tmp_path_factory), found, tmp_path)
    check_answers(decoded(answer, found), found)


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
@pytest.mark.skipif(not AARCH64_LIBC.exists(), reason="libc6-arm64-cross is not installed")
def test_aarch64_is_the_same(tmp_path_factory, tmp_path):
    library = built("aarch64-linux", tmp_path_factory)
    source, program = tmp_path / "calls.c", tmp_path / "calls"
    source.write_text(c_program())
    target = TARGETS["aarch64-linux"].linker
    command = zig("cc", "-target", target, f"-I{library.parent}", source, library, "-o", program)
    run([*command, f"-Wl,-rpath,{library.parent}"])
    found = calls()
    answer = run(["qemu-aarch64", "-L", AARCH64_LIBC, program], input=encoded(found))
    check_answers(decoded(answer, found), found)


@pytest.fixture
def c_caller(library, tmp_path):
    """The C program that answers calls, made by gcc with warnings as errors."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source, program = tmp_path / "calls.c", tmp_path / "calls"
    source.write_text(c_program())
    place = library.path.parent
    command = ["gcc", "-std=c11", "-g", "-Wall", "-Wextra", "-Werror", f"-I{place}", source]
    run([*command, library.path, f"-Wl,-rpath,{place}", "-o", program])
    return program


def test_c_is_the_same(c_caller):
    found = calls()
    check_answers(decoded(run([c_caller], input=encoded(found)), found), found)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_no_access_outside_of_any_array(c_caller):
    """Every array lies in a block of just its size, so valgrind sees every step outside."""
    found = calls(8)
    command = ["valgrind", "-q", "--error-exitcode=9", c_caller]
    check_answers(decoded(run(command, input=encoded(found)), found), found)


def test_header_is_cplusplus_too(library, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    source = tmp_path / "a.cpp"
    source.write_text('#include "onnxcam.h"\nint main() { return onnxcam_variant() < 0; }\n')
    place = library.path.parent
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{place}", f"-Wl,-rpath,{place}"]
    run(["g++", source, library.path, *flags, "-o", tmp_path / "a"])
    run([tmp_path / "a"])


def test_header_documents_every_function_and_code(library):
    text = (library.path.parent / "onnxcam.h").read_text()
    for name in (*public_names(), *(code.name for code in codes.CODES)):
        assert name in text
    for kernel in TABLE:
        for array in arrays_of(kernel):
            assert f"{array.name}: {array.dtype} [" in text


def test_a_library_of_another_table_is_refused(library, tmp_path):
    content = library.path.read_bytes()
    ours = library._text("build_id").encode()
    assert content.count(ours) == 1
    for other, reason in ((b"00000000" + ours[8:], "table"), (ours[:-8] + b"00000000", "sources")):
        path = tmp_path / reason
        path.write_bytes(content.replace(ours, other))
        with pytest.raises(LibraryError, match=reason):
            Library(path)


def test_broken_libraries_are_refused(tmp_path):
    with pytest.raises(LibraryError, match="no such file"):
        Library(tmp_path / "absent.so")
    (tmp_path / "empty.so").write_bytes(b"")
    with pytest.raises(LibraryError, match="cannot be loaded"):
        Library(tmp_path / "empty.so")


def test_unknown_target():
    with pytest.raises(OnnxcamError, match="sparc"):
        find_target("sparc-linux")
