"""The C header, made from the table and the kernels' own documentation."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from math import isinf
from pathlib import Path

from onnxcam._version import __version__
from onnxcam.native import codes
from onnxcam.native.interface import PREFIX, Argument, Function, functions, prototype
from onnxcam.native.table import TABLE, Array, Kernel, Number

_HEAD = f"""/* libonnxcam {__version__}: from the outputs of an explaining ONNX model to a picture.
 *
 * Made from engine/onnxcam/native/table.py; do not edit.
 *
 * Every kernel returns 0 or an error code, allocates nothing, and writes nothing with an error. All
 * functions may be called from several threads at once, as long as nobody writes what another
 * reads. Arrays are row-major and lie apart from each other unless said otherwise. An array with a
 * row stride has its rows that many bytes apart, at least the length of a row; all others are
 * contiguous. Shapes are given as [rows, columns, ...]. What is called finite is looked through
 * for NaN and infinity; elsewhere they are carried through, and never a crash.
 *
 * Results are the same, bit for bit, on every processor (what is NaN is NaN on all of them).
 */
#ifndef ONNXCAM_H
#define ONNXCAM_H

#include <stddef.h>
#include <stdint.h>

#ifndef ONNXCAM_API
#define ONNXCAM_API
#endif

#ifdef __cplusplus
extern "C" {{
#endif
"""
_FOOT = """#ifdef __cplusplus
}
#endif

#endif
"""
_OTHERS = f"""
/* The meaning of a code, in English; never null. */
ONNXCAM_API const char *{PREFIX}error_text(int32_t code);

/* The version of onnxcam that the library belongs to, "major.minor.patch". */
ONNXCAM_API const char *{PREFIX}version(void);

/* Which table and which sources the library was made from; for the Python package. */
ONNXCAM_API const char *{PREFIX}build_id(void);

/* The variant in use: 0 is the plainest (on x86-64: SSE2; 1 AVX2, 2 AVX-512). It is chosen by what
 * the processor offers, and changes the speed, never a result. */
ONNXCAM_API int32_t {PREFIX}variant(void);

/* Use another variant, in all threads: for tests and measurements.
 * {PREFIX.upper()}ERROR_VARIANT if there is none of this number or the processor can't run it. */
ONNXCAM_API int32_t {PREFIX}set_variant(int32_t variant);

/* A kernel by its number in this header, from 0, with its arguments side by side, 8 bytes each:
 * for languages in which passing an argument is slow.
 * {PREFIX.upper()}ERROR_VALUE if there is no kernel of this number. */
typedef union {PREFIX}value {{ int64_t whole; double real; void *address; }} {PREFIX}value;
ONNXCAM_API int32_t {PREFIX}call(int32_t kernel, const {PREFIX}value *arguments);
"""


def header() -> str:
    """The text of onnxcam.h."""
    names = [f"    {code.name} = {code.number}, /* {code.text} */" for code in codes.CODES]
    parts = [_HEAD, "enum onnxcam_code {", *names, "};", _OTHERS]
    for kernel in TABLE:
        parts += _declarations(kernel)
    return "\n".join([*parts, _FOOT])


def _declarations(kernel: Kernel) -> Iterator[str]:
    own, *queries = functions(kernel)
    yield _comment([*_documentation(kernel), "", *_arguments(kernel, own)])
    yield _wrapped(own)
    for query in queries:
        text = f"How many bytes of work space {own.name} needs for these sizes;"
        yield _comment([text, f"-{codes.SIZE.name} for sizes that it refuses."])
        yield _wrapped(query)


def _documentation(kernel: Kernel) -> list[str]:
    """The kernel's docstring; read from the source, since importing it needs numba."""
    folder = Path(__file__).parent.parent / "kernels"
    for node in _statements(folder / "__init__.py"):
        if isinstance(node, ast.ImportFrom) and kernel.name in [each.name for each in node.names]:
            module = str(node.module).rpartition(".")[2]
            for found in _statements(folder / f"{module}.py"):
                if isinstance(found, ast.FunctionDef) and found.name == kernel.name:
                    text = ast.get_docstring(found) or ""
                    return text.replace("``", "`").replace("*/", "* /").splitlines()
    raise ValueError(f"onnxcam.kernels has no function {kernel.name}")


def _statements(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text("utf-8")).body


def _arguments(kernel: Kernel, function: Function) -> Iterator[str]:
    for argument in function.arguments:
        about = _about(kernel, argument)
        if about:
            yield from textwrap.wrap(f"{argument.name}: {about}", 95, subsequent_indent="    ")
    for condition in kernel.conditions:
        yield f"It has to hold that {condition}."


def _about(kernel: Kernel, argument: Argument) -> str:
    source = argument.source
    if argument.kind == "pointer":
        assert isinstance(source, Array)
        shape = ", ".join(map(str, source.shape))
        words = [f"{source.dtype} [{shape}]", "finite" if source.finite else ""]
        words += [f"0 to {source.highest}, never falling" if source.highest else "", source.about]
        return ", ".join(word for word in words if word)
    if argument.kind == "stride":
        assert isinstance(source, Array)
        return f"bytes from one row of {source.name} to the next"
    if argument.kind == "scratch":
        return "work space of any content and alignment; nobody else may use it meanwhile"
    if argument.kind == "room":
        return "its size in bytes; at least what the function below says"
    if argument.kind == "number":
        assert isinstance(source, Number)
        return ", ".join(word for word in (_limits(source), source.about) if word)
    for name, low, high in kernel.sizes:
        if name == argument.name:
            return f"{low} to {high}"
    return ""


def _limits(number: Number) -> str:
    if isinf(number.low) and isinf(number.high):
        return "finite"
    if isinf(number.high):
        return f"{number.low:g} or more"
    return f"{number.low:g} to {number.high:g}"


def _comment(lines: list[str]) -> str:
    rest = [f" * {line}".rstrip() for line in lines[1:]]
    return "\n".join([f"/* {lines[0]}", *rest]) + " */"


def _wrapped(function: Function) -> str:
    declaration = f"ONNXCAM_API {prototype(function)};"
    lines = textwrap.wrap(declaration, 96, subsequent_indent="    ", break_long_words=False)
    return "\n".join(lines) + "\n"
