"""An onnxruntime session that says clearly what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxcam.errors import InputError, ModelError
from onnxcam.providers import CPU, Chosen, add_to, choose, how_to_start, short_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxcam.placement import Placement

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
# "/onnxruntime_src/a.cc:729 void onnxruntime::f(const X&) " before a message
_WHERE = re.compile(r"/\S+\.(?:cc|h):\d+ .*?\) (?=[\[A-Z])")
_FATAL_ONLY = 4  # onnxruntime prints lesser messages to stderr; errors are raised anyway


class TensorInfo(NamedTuple):
    """A session's input or output; an open dimension is None. `dtype` None: unknown to NumPy."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any] | None

    def check(self, tensor: Any) -> None:
        """Raise InputError unless `tensor` fits and holds finite values only."""
        if not isinstance(tensor, np.ndarray):
            raise InputError(
                f"input '{self.name}': expected an array {self}, got {type(tensor).__name__}"
            )
        fits = len(tensor.shape) == len(self.shape) and all(
            wanted is None or wanted == side
            for wanted, side in zip(self.shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != self.dtype:
            raise InputError(
                f"input '{self.name}': expected {self}, got {tensor.dtype} {list(tensor.shape)}"
            )
        if tensor.size == 0:
            raise InputError(f"input '{self.name}': the tensor is empty, {list(tensor.shape)}")
        if tensor.dtype.kind == "f" and not _is_finite(tensor):
            raise InputError(f"input '{self.name}': holds NaN or infinite values")

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(_dimension(side) for side in self.shape)}]"


class Session:
    """A loaded model: its inputs, outputs and metadata, and :meth:`run`.

    Args:
        model: path or content of an ONNX file.
        providers: onnxruntime's names or short ones (:data:`onnxcam.providers.PROVIDERS`), each
            alone or as a pair with its options, ("cuda", {"device_id": 1}); None for the CPU.
        threads: threads inside an operator; None for onnxruntime's own choice.
        session_options: `onnxruntime.SessionOptions` to start from, which may name devices of
            providers themselves (`add_provider_for_devices`). Threads and
            :data:`onnxcam.placement.RECORD` are set in it.

    Raises:
        ModelError: no such file, not ONNX, truncated, not runnable, or a provider is missing.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        providers: Sequence[Any] | None = None,
        threads: int | None = None,
        session_options: Any = None,
    ) -> None:
        import onnxruntime

        self.title = "the model" if isinstance(model, bytes) else f"'{os.fspath(model)}'"
        options = _options(session_options, threads)
        wanted = choose(providers)
        if not wanted and not _names_devices(options):
            wanted = [(CPU, {})]
        elif wanted and _names_devices(options):
            raise ModelError("providers: session_options names devices already; give one of both")
        if [name for name, _ in wanted] != [CPU]:
            from onnxcam.placement import RECORD

            _set_default(options, RECORD, "1")
        source = model if isinstance(model, bytes) else _existing(os.fspath(model))
        if source == b"":
            raise ModelError("the model is empty (0 bytes)")
        try:
            given = add_to(options, wanted)
            # Without enable_fallback=0 a provider that fails is replaced, and print() says so.
            self._session = onnxruntime.InferenceSession(
                source, options, providers=given, enable_fallback=0
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            where = "".join(f" on {short_name(name)}" for name, _ in wanted[:1] if name != CPU)
            raise ModelError(f"cannot load {self.title}{where}: {_reason(error)}") from error
        self._session.disable_fallback()  # of runs, where onnxruntime is too old for the argument
        self._check_providers(wanted)
        self.inputs = {info.name: info for info in map(_info, self._session.get_inputs())}
        self.outputs = {info.name: info for info in map(_info, self._session.get_outputs())}

    @property
    def metadata(self) -> str | None:
        """The contract's text in the file, or None."""
        from onnxcam.contract import METADATA_KEY

        found = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        return None if found is None else str(found)

    @property
    def providers(self) -> list[str]:
        """The execution providers in use."""
        return list(self._session.get_providers())

    @cached_property
    def on_cpu(self) -> bool:
        """Whether all of the model runs on the CPU's own provider."""
        return self.providers == [CPU]

    @property
    def placement(self) -> Placement:
        """Which nodes run where: a provider leaves what it can't do to the CPU."""
        from onnxcam.placement import Placement

        return Placement.of(self._session)

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """The named outputs for these inputs.

        Raises:
            ModelError: the run fails.
        """
        try:
            values = self._session.run(list(outputs), dict(feeds))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelError(f"running {self.title} failed: {_reason(error)}") from error
        return dict(zip(outputs, values, strict=True))

    def bind(self, outputs: Mapping[str, NDArray[Any]]) -> Any:
        """Onnxruntime's binding of outputs to these arrays, for :meth:`run_bound`."""
        binding = self._session.io_binding()
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return binding

    def run_bound(self, binding: Any, changed: Iterable[tuple[str, NDArray[Any], int]]) -> None:
        """Run with the inputs of the last time, but for these: name, contiguous array, address.

        Shapes are those that the binding's outputs go with. Inputs stay bound by address only, so
        the caller's arrays don't live longer for it.

        Raises:
            ModelError: the run fails; no input is bound then.
        """
        try:
            for name, array, at in changed:
                # Not bind_cpu_input: the binding would keep the caller's arrays alive.
                binding.bind_input(name, "cpu", 0, array.dtype, array.shape, at)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions share no base class
            binding.clear_binding_inputs()
            raise ModelError(f"running {self.title} failed: {_reason(error)}") from error

    def _check_providers(self, wanted: Sequence[Chosen]) -> None:
        # onnxruntime falls back to the CPU in silence when a provider does not start.
        used = self.providers
        for name, _ in wanted:
            if name not in used:
                raise ModelError(
                    f"provider '{name}' did not start, running are {', '.join(used)}; "
                    f"{how_to_start(name)}"
                )


def _options(given: Any, threads: int | None) -> Any:
    """The caller's session options or new ones, with that many threads."""
    import onnxruntime

    if given is None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
    elif isinstance(given, onnxruntime.SessionOptions):
        options = given
    else:
        raise ModelError(
            f"session_options: expected onnxruntime.SessionOptions, got {type(given).__name__}"
        )
    if threads is not None:
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise ModelError(f"threads: expected a whole number of at least 1, got {threads!r}")
        options.intra_op_num_threads = threads
    return options


def _names_devices(options: Any) -> bool:
    return hasattr(options, "has_providers") and bool(options.has_providers())


def _set_default(options: Any, key: str, value: str) -> None:
    try:
        options.get_session_config_entry(key)
    except Exception:  # there is none yet; onnxruntime's exceptions share no base class
        options.add_session_config_entry(key, value)


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise ModelError(f"model '{path}': no such file")
    if os.path.isdir(path):
        raise ModelError(f"model '{path}': is a folder, expected an ONNX file")
    if os.path.getsize(path) == 0:
        raise ModelError(f"model '{path}': the file is empty (0 bytes)")
    return path


def _info(argument: Any) -> TensorInfo:
    shape = tuple(side if isinstance(side, int) else None for side in argument.shape)
    dtype = _DTYPES.get(argument.type)
    return TensorInfo(argument.name, shape, None if dtype is None else np.dtype(dtype))


def _is_finite(tensor: NDArray[Any]) -> bool:
    # NaN is both maximum and minimum. No memory, and 24 us for 224x224x3; a sum takes 36.
    return bool(np.isfinite(tensor.max()) and np.isfinite(tensor.min()))


def _dimension(side: int | None) -> str:
    return "any" if side is None else str(side)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "not an ONNX file, or a truncated one" if "rotobuf" in text else telling_part(text)


def telling_part(message: str) -> str:
    """What onnxruntime says, on one line: without its source file, function and error code."""
    text = " ".join(message.split())
    if "[ONNXRuntimeError]" in text:
        text = text.rpartition("[ONNXRuntimeError]")[2].split(" : ", 3)[-1]
    text = _WHERE.sub("", text)
    # A long one has its reason at the end.
    return text if len(text) <= 400 else f"{text[:100]} ... {text[-300:]}"
