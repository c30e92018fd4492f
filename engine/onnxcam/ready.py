"""The maps of a run like the one before.

Outputs of a bound session stay in their arrays from run to run, and so do the maps that nobody
asked for. So of the reduction's arguments only the address of the result changes. After a network
has run the processor's caches hold nothing of Python's code, and what `attribute` does takes 0.2 ms
(35 us in a loop of its own).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam import compiled
from onnxcam.attribution import Reduction
from onnxcam.native.loader import address
from onnxcam.native.prepared import Prepared
from onnxcam.painting import check_out


class ReadyMaps:
    """The reduction `reduction` of `outputs`, whose result is its array `own`.

    `key` is what tells one reduction of these outputs from another, `shape` the result's.
    """

    def __init__(
        self,
        outputs: Mapping[str, NDArray[Any]],
        key: Any,
        reduction: Reduction,
        own: str,
        shape: tuple[int, ...],
    ) -> None:
        self._outputs, self._key, self._shape = outputs, key, shape
        self._call: Prepared | None = None
        arrays = reduction.arrays
        if all(_is_of(arrays[name], outputs) for name in reduction.sources):
            known = {name: array for name, array in arrays.items() if name != own}
            self._call = compiled.prepare(reduction.kernel, known, {own: arrays[own].shape})

    def serves(self, outputs: Mapping[str, NDArray[Any]], key: Any) -> bool:
        """Whether these are the arrays and the reduction that this was made for."""
        return outputs is self._outputs and key == self._key and self._call is not None

    def fill(self, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The maps, in `out` or a new array.

        Raises:
            InputError: a wrong `out`.
        """
        if out is None:
            out = np.empty(self._shape, np.float32)
        else:
            check_out(out, self._shape, np.float32)
        assert self._call is not None
        code = self._call(address(out))
        assert code == 0  # shapes fit, and values may be any
        return out


def _is_of(array: NDArray[Any], outputs: Mapping[str, NDArray[Any]]) -> bool:
    """Whether it is an output's own memory, not a copy in another dtype."""
    return any(np.may_share_memory(array, each) for each in outputs.values())
