"""The functions that no kernel stands behind, as C source (Zig, which links, compiles it too).

Version, build and error texts; and, where a target has several variants, one function for every
kernel that passes its arguments on to the variant that suits the processor. The choice is made by
CPUID at the first call (not in a constructor: then nothing depends on a C runtime that calls it)
and kept in one atomic number, so threads may make it twice but never differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxcam.native.codes import CODES
from onnxcam.native.interface import PREFIX, Function, functions, prototype
from onnxcam.native.table import TABLE
from onnxcam.native.targets import Target

_BEST_OF_ONE = "static int32_t best(void) { return 0; }\n"
# AVX2 needs the processor (leaf 7, EBX bit 5) and an operating system that saves the registers
# (leaf 1, ECX bits 27 and 28; XCR0 bits 1 and 2); AVX-512 likewise (EBX bits 16, 17, 30 and 31: F,
# DQ, BW and VL; ECX bit 1: VBMI; XCR0 bits 5 to 7, too). `__builtin_cpu_supports` would be shorter,
# but is a constructor of the compiler's run-time library.
_BEST_OF_X86 = """#include <cpuid.h>

static int32_t best(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & 0x18000000u) != 0x18000000u) return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6u) != 6u || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!(b >> 5 & 1u)) return 0;
    return (low & 0xe6u) == 0xe6u && (b & 0xc0030000u) == 0xc0030000u && (c & 2u) ? 2 : 1;
}
"""
_CHOICE = """
static int32_t choice = -1;

static int32_t chosen(void) {
    int32_t known = __atomic_load_n(&choice, __ATOMIC_RELAXED);
    if (known < 0) {
        known = best();
        __atomic_store_n(&choice, known, __ATOMIC_RELAXED);
    }
    return known;
}

ONNXCAM_API int32_t PREFIX_variant(void) { return chosen(); }

ONNXCAM_API int32_t PREFIX_set_variant(int32_t variant) {
    if (variant < 0 || variant > best()) return ONNXCAM_ERROR_VARIANT;
    __atomic_store_n(&choice, variant, __ATOMIC_RELAXED);
    return ONNXCAM_OK;
}
"""
# What LLVM calls in place of a loop, or for want of an instruction (plain x86-64 has none for
# floor). With these the library needs no C library, and runs beside any of them. The loops
# vectorise (-fno-builtin keeps them from becoming calls of themselves).
_LIBC = """
#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN void *memset(void *to, int value, size_t size) {
    for (size_t i = 0; i < size; ++i) ((unsigned char *)to)[i] = (unsigned char)value;
    return to;
}

HIDDEN void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    for (size_t i = 0; i < size; ++i) ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}

HIDDEN void *memmove(void *to, const void *from, size_t size) {
    if ((uintptr_t)to - (uintptr_t)from >= size) return memcpy(to, from, size);
    for (size_t i = size; i > 0; --i)
        ((unsigned char *)to)[i - 1] = ((const unsigned char *)from)[i - 1];
    return to;
}

HIDDEN double floor(double x) {
    if (!(x > -4503599627370496.0 && x < 4503599627370496.0) || x == 0.0) return x;
    double whole = (double)(int64_t)x;
    return whole > x ? whole - 1.0 : whole;
}
"""
# Without a C runtime a DLL has to bring its own entry point, and the mark of floating point.
_WINDOWS = """
int _fltused;
int __stdcall DllMainCRTStartup(void *module, unsigned long reason, void *reserved) { return 1; }
"""
_API = """#if defined(_WIN32)
#define ONNXCAM_API __declspec(dllexport)
#else
#define ONNXCAM_API __attribute__((visibility("default")))
#endif
#include "onnxcam.h"
"""


def variant_symbol(name: str, variant: str) -> str:
    """The hidden name of one variant of a function."""
    return f"{name}__{variant}"


def dispatch_source(target: Target, version: str, build: str) -> str:
    """C source for a target; it includes the library's header, so the prototypes have to agree.

    Where the target has one variant only, the kernels have their public names already.
    """
    several = len(target.variants) > 1
    parts = [_API, _BEST_OF_X86 if several else _BEST_OF_ONE]
    parts.append(_CHOICE.replace("PREFIX_", PREFIX))
    parts += [_text("version", version), _text("build_id", build), _error_text()]
    parts.append(_LIBC)
    if "windows" in target.linker:
        parts.append(_WINDOWS)
    if several:
        names = [variant for variant, _ in target.variants]
        parts += [_passing_on(each, names) for kernel in TABLE for each in functions(kernel)]
    parts.append(_call())
    return "\n".join(parts)


def _text(name: str, text: str) -> str:
    return f'ONNXCAM_API const char *{PREFIX}{name}(void) {{ return "{text}"; }}\n'


def _error_text() -> str:
    cases = [f'    case {code.name}: return "{code.text}";' for code in CODES]
    cases.append('    default: return "unknown error code";')
    head = f"ONNXCAM_API const char *{PREFIX}error_text(int32_t code) {{\n    switch (code) {{\n"
    return head + "\n".join(cases) + "\n    }\n}\n"


def _call() -> str:
    lines = [f"ONNXCAM_API int32_t {PREFIX}call(int32_t kernel, const {PREFIX}value *arguments) {{"]
    lines.append("    switch (kernel) {")
    for number, kernel in enumerate(TABLE):
        function = next(functions(kernel))
        given = [f"arguments[{i}].{each.packed}" for i, each in enumerate(function.arguments)]
        lines.append(f"    case {number}: return {function.name}({', '.join(given)});")
    return "\n".join([*lines, "    default: return ONNXCAM_ERROR_VALUE;", "    }", "}", ""])


def _passing_on(function: Function, variants: Sequence[str]) -> str:
    return "\n".join(_passing_lines(function, variants))


def _passing_lines(function: Function, variants: Sequence[str]) -> Iterator[str]:
    given = ", ".join(each.name for each in function.arguments)
    for variant in variants:
        yield f"{prototype(function, variant_symbol(function.name, variant))};"
    yield f"ONNXCAM_API {prototype(function)} {{"
    yield "    switch (chosen()) {"
    for i, variant in reversed(list(enumerate(variants))):
        label = f"case {i}" if i else "default"
        yield f"    {label}: return {variant_symbol(function.name, variant)}({given});"
    yield "    }\n}\n"
