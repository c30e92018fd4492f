"""onnxruntime's execution providers under the names that people use for them."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from onnxcam.errors import InputError, ModelError

# onnxruntime's name and the options
Chosen: TypeAlias = tuple[str, dict[str, Any]]

CPU = "CPUExecutionProvider"


class Provider(NamedTuple):
    """An execution provider: onnxruntime's name, short ones, and where to get it.

    `plugin` is the module of a package that brings the provider as a library of its own for an
    ordinary onnxruntime; such a module has `get_library_path()`, and onnxruntime gives the
    provider's devices out to those who ask for them, not by name.
    """

    name: str
    short: tuple[str, ...]
    install: str
    plugin: str | None = None


PROVIDERS = (
    Provider(CPU, ("cpu",), "it is in every onnxruntime"),
    Provider(
        "CUDAExecutionProvider",
        ("cuda",),
        "pip install 'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime",
    ),
    Provider(
        "TensorrtExecutionProvider",
        ("tensorrt",),
        "pip install 'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime, and NVIDIA TensorRT",
    ),
    Provider(
        "OpenVINOExecutionProvider",
        ("openvino",),
        "pip install onnxruntime-openvino in place of onnxruntime, or onnxruntime-ep-openvino "
        "beside it",
        "onnxruntime_ep_openvino",
    ),
    Provider("CoreMLExecutionProvider", ("coreml",), "it is in onnxruntime for macOS"),
    Provider(
        "DmlExecutionProvider",
        ("directml", "dml"),
        "pip install onnxruntime-directml in place of onnxruntime, on Windows",
    ),
    Provider(
        "XnnpackExecutionProvider",
        ("xnnpack",),
        "it is in onnxruntime's packages for Android and iOS, and in builds with --use_xnnpack",
    ),
    Provider(
        "QNNExecutionProvider",
        ("qnn",),
        "pip install onnxruntime-qnn beside onnxruntime",
        "onnxruntime_qnn",
    ),
    Provider(
        "MIGraphXExecutionProvider",
        ("migraphx",),
        "pip install onnxruntime-migraphx in place of onnxruntime",
    ),
    Provider(
        "ROCMExecutionProvider",
        ("rocm",),
        "pip install onnxruntime-rocm in place of onnxruntime",
    ),
    Provider(
        "WebGpuExecutionProvider",
        ("webgpu",),
        "pip install onnxruntime-webgpu in place of onnxruntime, or onnxruntime-ep-webgpu beside "
        "it",
        "onnxruntime_ep_webgpu",
    ),
)
_BY_NAME = {name.lower(): row for row in PROVIDERS for name in (row.name, *row.short)}
_NEED_NVIDIA_LIBRARIES = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def choose(wanted: Any) -> list[Chosen]:
    """The providers that a caller names, as onnxruntime takes them; [] for None.

    Args:
        wanted: None, a name, or a sequence of names and of pairs (name, options): onnxruntime's
            names or short ones, in any case. An option that is a dict or a list is passed on as
            JSON.

    Raises:
        ModelError: another form, or a provider that this onnxruntime does not have.
    """
    import onnxruntime

    if wanted is None:
        return []
    entries = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(entries, Sequence) or not entries:
        raise ModelError(
            "providers: expected names as 'cuda' or pairs as ('cuda', {'device_id': 1}), "
            f"got {wanted!r}"
        )
    chosen: list[Chosen] = []
    for entry in entries:
        name, options = _parts(entry)
        chosen.append((_find(name, onnxruntime), options))
    if any(name in _NEED_NVIDIA_LIBRARIES for name, _ in chosen):
        _load_nvidia_libraries(onnxruntime)
    return chosen


def add_to(options: Any, chosen: Sequence[Chosen]) -> list[Chosen] | None:
    """What to pass as `providers=` beside these session options.

    None where one of them is a plug-in: then all are in the options, which is the only way to ask
    for a plug-in's device (the first of them; for another one, give session options of your own).
    """
    import onnxruntime

    devices = {name: _plugin_devices(name, onnxruntime) for name, _ in chosen}
    if not any(devices.values()):
        return list(chosen) or None
    for name, own in chosen:
        texts = {key: str(value) for key, value in own.items()}
        if devices[name]:
            options.add_provider_for_devices(devices[name][:1], texts)
        elif name != CPU:  # onnxruntime adds the CPU by itself, last
            options.add_provider(name, texts)
    return None


def parse_providers(text: str | None) -> list[Any] | None:
    """What `--providers` says: `cuda:device_id=1,cpu`, or JSON, `[["cuda", {...}], "cpu"]`.

    JSON is for values with a comma or a colon in them.

    Raises:
        InputError: neither.

    Examples:
        >>> parse_providers("cuda:device_id=1:use_tf32=0,cpu")
        [('cuda', {'device_id': '1', 'use_tf32': '0'}), 'cpu']
    """
    if text is None:
        return None
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except ValueError as error:
            raise InputError(f"--providers: not JSON: {error}") from error
    return [_entry(part.strip()) for part in text.split(",")]


def short_name(name: str) -> str:
    """`CUDA` for `CUDAExecutionProvider`, for people."""
    return name.removesuffix("ExecutionProvider")


def how_to_start(name: str) -> str:
    """What a provider that is there but did not start may lack."""
    row = _BY_NAME.get(name.lower())
    reason = "onnxruntime's own messages say why"
    return f"{reason}; to install it: {row.install}" if row else reason


def _entry(part: str) -> Any:
    name, *pairs = part.split(":")
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(
                f"--providers: expected NAME:OPTION=VALUE, got {part!r}; "
                'a value with a comma or a colon is given as JSON, [["NAME", {...}]]'
            )
        options[key] = value
    if not name:
        raise InputError("--providers: expected names as cuda,cpu; one is empty")
    return (name, options) if options else name


def _parts(entry: Any) -> Chosen:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Sequence) and len(entry) in (1, 2) and isinstance(entry[0], str):
        options = entry[1] if len(entry) == 2 else {}
        if isinstance(options, Mapping):
            # OpenVINO's load_config is JSON itself.
            texts = {k: json.dumps(v) for k, v in options.items() if isinstance(v, (dict, list))}
            return entry[0], {**options, **texts}
    raise ModelError(
        "providers: expected a name as 'cuda' or a pair as ('cuda', {'device_id': 1}), "
        f"got {entry!r}"
    )


def _find(name: str, onnxruntime: Any) -> str:
    available = onnxruntime.get_available_providers()
    row = _BY_NAME.get(name.lower())
    found = row.name if row else None
    if found in available:
        return str(found)
    for each in available:  # of another build
        if name.lower() in (each.lower(), short_name(each).lower()):
            return str(each)
    has = ", ".join(short_name(each).lower() for each in available)
    if row is None:
        known = ", ".join(row.short[0] for row in PROVIDERS)
        raise ModelError(
            f"provider '{name}' is not in this onnxruntime; it has {has} (known: {known})"
        )
    if row.plugin is not None and importlib.util.find_spec(row.plugin) is not None:
        return _registered(row, onnxruntime)
    raise ModelError(
        f"provider '{name}' is not in this onnxruntime; it has {has}. To install it: {row.install}"
    )


def _registered(row: Provider, onnxruntime: Any) -> str:
    """The provider of an installed plug-in, which becomes known to onnxruntime's process."""
    title = f"provider '{row.short[0]}': the plug-in {row.plugin}"
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise ModelError(f"{title} needs onnxruntime 1.23, this is {onnxruntime.__version__}")
    try:
        library = importlib.import_module(str(row.plugin)).get_library_path()
        onnxruntime.register_execution_provider_library(row.name, str(library))
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"{title} does not load: {' '.join(str(error).split())}") from error
    if all(device.ep_name != row.name for device in onnxruntime.get_ep_devices()):
        # A second try would find it registered.
        onnxruntime.unregister_execution_provider_library(row.name)
        raise ModelError(f"{title} finds no device of its own on this machine")
    return row.name


def _plugin_devices(name: str, onnxruntime: Any) -> list[Any]:
    """The devices of an installed plug-in; [] where the provider is not one."""
    row = _BY_NAME.get(name.lower())
    if row is None or row.plugin is None or importlib.util.find_spec(row.plugin) is None:
        return []
    if not hasattr(onnxruntime, "get_ep_devices"):
        return []
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]


def _load_nvidia_libraries(onnxruntime: Any) -> None:
    """Load CUDA and cuDNN where they come as Python packages, in folders no loader looks into."""
    if importlib.util.find_spec("nvidia") is not None and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls(msvc=False)
