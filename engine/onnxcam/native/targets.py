"""The machines that the library is built for: a table."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from onnxcam.errors import OnnxcamError


@dataclass(frozen=True)
class Target:
    """A machine.

    `triple` and `cpu` are LLVM's; `linker` is Zig's name of the machine, with the oldest version
    of the system's C library that will do. `variants` are (name, further features), the plainest
    first, chosen by CPUID where there are several. `tag` is the wheel's platform tag, `tried`
    whether our tests run the result.
    """

    name: str
    triple: str
    cpu: str
    linker: str
    library: str
    tag: str | None
    tried: bool
    variants: tuple[tuple[str, str], ...] = (("baseline", ""),)
    size_bits: int = 64


# With VBMI, which Intel has had since 2019 (Ice Lake) and AMD since 2022 (Zen 4). 1280x720 on an
# AMD Zen 5: JET 88 us instead of 130, turbo 110 instead of 285.
_AVX512 = "+avx2,+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx512vbmi"
_X86 = (("sse2", ""), ("avx2", "+avx2"), ("avx512", _AVX512))
# ONNX Runtime's own WebAssembly asks for SIMD too. 451x300 pixels with it and without: JET 1.1 and
# 3.5 ms; and the library is two thirds of the size.
_WASM = (("simd128", "+simd128"),)
_ROWS = (
    Target(
        "x86_64-linux",
        "x86_64-unknown-linux-gnu",
        "x86-64",
        "x86_64-linux-gnu.2.17",
        "libonnxcam.so",
        "manylinux_2_17_x86_64",
        tried=True,
        variants=_X86,
    ),
    Target(
        "aarch64-linux",
        "aarch64-unknown-linux-gnu",
        "generic",
        "aarch64-linux-gnu.2.17",
        "libonnxcam.so",
        "manylinux_2_17_aarch64",
        tried=True,
    ),
    Target(
        "wasm32",
        "wasm32-unknown-unknown",
        "generic",
        "wasm32-freestanding",
        "onnxcam.wasm",
        None,
        tried=True,
        variants=_WASM,
        size_bits=32,
    ),
    Target(
        "x86_64-macos",
        "x86_64-apple-macosx11.0.0",
        "x86-64",
        "x86_64-macos.11.0",
        "libonnxcam.dylib",
        "macosx_11_0_x86_64",
        tried=False,
        variants=_X86,
    ),
    Target(
        "aarch64-macos",
        "arm64-apple-macosx11.0.0",
        "apple-m1",
        "aarch64-macos.11.0",
        "libonnxcam.dylib",
        "macosx_11_0_arm64",
        tried=False,
    ),
    Target(
        "x86_64-windows",
        "x86_64-w64-windows-gnu",
        "x86-64",
        "x86_64-windows-gnu",
        "onnxcam.dll",
        "win_amd64",
        tried=False,
        variants=_X86,
    ),
)
TARGETS: dict[str, Target] = {row.name: row for row in _ROWS}

_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def host_target() -> Target | None:
    """This machine, or None where no row fits it (another C library than glibc included)."""
    if sys.platform == "linux" and platform.libc_ver()[0] != "glibc":
        return None
    if sys.maxsize < 2**32:
        return None
    machine = _MACHINES.get(platform.machine().lower())
    return TARGETS.get(f"{machine}-{_SYSTEMS.get(sys.platform)}")


def find_target(name: str | None) -> Target:
    """The target of this name; None for this machine.

    Raises:
        OnnxcamError: there is none; the message lists them.
    """
    if name is not None:
        if name in TARGETS:
            return TARGETS[name]
        raise OnnxcamError(f"target '{name}' is unknown; known are {', '.join(TARGETS)}")
    host = host_target()
    if host is None:
        raise OnnxcamError(
            f"no target is this machine ({sys.platform}, {platform.machine()}); "
            f"known are {', '.join(TARGETS)}"
        )
    return host
