"""From the kernels to an object file, by Numba and LLVM.

Run as ``python -m onnxcam.native.codegen FOLDER TARGET...`` by `build`, in a process of its own
with settings of Numba that have to be there before it is imported.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxcam.errors import OnnxcamError
from onnxcam.kernels import instructions
from onnxcam.native.dispatch import variant_symbol
from onnxcam.native.entries import entry_source
from onnxcam.native.interface import functions
from onnxcam.native.table import TABLE
from onnxcam.native.targets import Target, find_target

# Reference counts of arrays that nobody counts: the entry functions own no memory.
_REFERENCE_COUNTS = re.compile(
    r"^define linkonce_odr void @NRT_(incref|decref)\(ptr [^)]*\)[^{]*\{.*?^\}$", re.M | re.S
)


class BuildError(OnnxcamError):
    """A kernel can't be compiled ahead of time."""


def main(argv: list[str]) -> int:
    """Write the object files of targets, each into a folder of its own."""
    for name in argv[1:]:
        folder = Path(argv[0]) / name
        folder.mkdir()
        for file_name, content in object_files(find_target(name)).items():
            (folder / file_name).write_bytes(content)
    return 0


def object_files(target: Target) -> dict[str, bytes]:
    """The kernels compiled for a target, one object file a variant: names and contents.

    Where there are several, their functions have names of their own and are hidden (`dispatch`
    chooses among them); everything that is not an entry function is internal.
    """
    from llvmlite import binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    sources = dict(_sources(target))
    several = len(target.variants) > 1
    files = {}
    for variant, features in target.variants:
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=features, opt=3, reloc="pic", codemodel="default"
        )
        module = _parsed("", target, features, machine)
        for text in sources.values():
            module.link_in(_parsed(text, target, features, machine))
        names = {name: variant_symbol(name, variant) if several else name for name in sources}
        _export(module, names, target, hidden=several)
        files[f"{variant}.o"] = _emitted(module, machine)
    return files


def _sources(target: Target) -> Iterator[tuple[str, str]]:
    """The C name and the LLVM source of every function, its definition under that name."""
    from onnxcam import kernels

    for kernel in TABLE:
        for function in functions(kernel):
            entry = _compiled(entry_source(kernel, function), getattr(kernels, kernel.name))
            dtypes = [_numba_type(each.dtype, target, each.kind) for each in function.arguments]
            returned = _numba_type(function.returns, target)
            yield function.name, _llvm_source(entry, returned, dtypes, function.name)


def _numba_type(dtype: str, target: Target, kind: str = "number") -> Any:
    from numba import types

    found = getattr(types, f"int{target.size_bits}" if dtype == "size" else dtype)
    return types.CPointer(found) if kind in ("pointer", "scratch") else found


def _compiled(source: str, kernel: Any) -> Callable[..., Any]:
    from numba import int64

    from onnxcam.native import arrays

    scope = {**vars(arrays), **arrays.MOVED, "kernel": kernel, "int64": int64}
    scope["inf"] = float("inf")
    exec(source, scope)  # made from our own table, by entries
    return scope["entry"]  # type: ignore[no-any-return]


def _llvm_source(entry: Callable[..., Any], returned: Any, dtypes: list[Any], name: str) -> str:
    from numba import cfunc

    compiled = cfunc(returned(*dtypes), nopython=True, error_model="numpy", boundscheck=False)(
        entry
    )
    text = compiled.inspect_llvm()
    text = text.replace(f"@{compiled.native_name}(", f"@{name}(")
    return _REFERENCE_COUNTS.sub(_no_reference_count, text)


def _no_reference_count(found: re.Match[str]) -> str:
    return f"define linkonce_odr void @NRT_{found[1]}(ptr %.1) alwaysinline {{\n  ret void\n}}"


def _parsed(text: str, target: Target, features: str, machine: Any) -> Any:
    from llvmlite import binding as llvm

    text = re.sub(r"^target (datalayout|triple) = .*$", "", text, flags=re.M)
    for name, build in instructions.bodies(target.triple, features):
        plain = rf"^define linkonce_odr (?:<[^>]*>|i1) @\"?{re.escape(name)}\"?\(.*?^\}}$"
        body = instructions.source(name, build)
        text = re.sub(plain, lambda _, body=body: body, text, flags=re.M | re.S)  # type: ignore[misc]
    text = _declared_once(text)
    head = f'target datalayout = "{machine.target_data}"\ntarget triple = "{target.triple}"\n'
    return llvm.parse_assembly(head + text)


def _declared_once(text: str) -> str:
    """Without the second declaration of an intrinsic that several bodies have brought along."""
    seen: set[str] = set()

    def unless_seen(found: re.Match[str]) -> str:
        line = "" if found[1] in seen else found[0]
        seen.add(found[1])
        return line

    return re.sub(r'^declare [^@]*@"?([\w.$]+)"?\(.*$', unless_seen, text, flags=re.M)


def _export(module: Any, names: Mapping[str, str], target: Target, hidden: bool) -> None:
    """Give the functions of these names their final ones, and make all else internal."""
    from llvmlite import binding as llvm

    for each in (*module.functions, *module.global_variables):
        if each.is_declaration:
            continue
        if each.name not in names:
            each.linkage = llvm.Linkage.internal
            continue
        each.name = names[each.name]
        each.linkage = llvm.Linkage.external
        if hidden:
            each.visibility = llvm.Visibility.hidden
        elif "windows" in target.triple:
            each.storage_class = llvm.StorageClass.dllexport


def _emitted(module: Any, machine: Any) -> bytes:
    from llvmlite import binding as llvm

    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    for _ in range(2):  # what the first round inlines, the second simplifies
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    if "numba.dynamic.globals" in str(module):
        raise BuildError("a kernel holds the address of a Python object: make it plain loops")
    return bytes(machine.emit_object(module))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
