"""The engine: an explaining file, ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from onnxcam.errors import MethodError, PreprocessError
from onnxcam.meanwhile import importing
from onnxcam.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxcam.contract import Contract
    from onnxcam.pictures import PictureLike
    from onnxcam.placement import Placement
    from onnxcam.preprocess import Preparation
    from onnxcam.result import Result
    from onnxcam.workspace import Workspace


class Engine:
    """An explaining ONNX file, ready to run; safe to share between threads.

    Args:
        model: path or content of a file that `onnxcam export` wrote.
        providers: onnxruntime's execution providers, by name or short name, alone or as a pair
            with options: ["tensorrt", ("cuda", {"device_id": 1})]; None: the CPU.
        threads: threads inside an operator; None for onnxruntime's own choice.
        method: the CAM method of calls that name none, a key of :data:`onnxcam.methods.METHODS`;
            None for Grad-CAM, or the method of a file that emits the finished heatmap.
        preprocess: instead of the file's own: what :func:`onnxcam.presets.parse_preprocess` takes.
        labels: instead of the file's own: names in class order, or the path of a labels file.
        contract: for a file without one: what it would say.
        session_options: an `onnxruntime.SessionOptions` to start from; `threads` is set in it.

    Raises:
        ModelError: the file is missing, not ONNX, truncated, or can't be run.
        ContractError: the file has no contract, or one that contradicts its graph.
        PreprocessError: the preprocessing contradicts the model's input.
        InputError: the number of labels is not the number of classes.
        MethodError: the method is unknown, needs more than the file puts out, or is another one
            than its finished heatmap's.

    Examples:
        >>> engine = Engine("resnet50.cam.onnx")  # doctest: +SKIP
        >>> engine.explain("dog.jpg").save("dog.cam.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        providers: Sequence[Any] | None = None,
        threads: int | None = None,
        method: str | None = None,
        preprocess: Any = None,
        labels: str | os.PathLike[str] | Sequence[str] | None = None,
        contract: Contract | None = None,
        session_options: Any = None,
    ) -> None:
        with importing():
            session = Session(model, providers, threads, session_options)
        from onnxcam.attribution import check_method
        from onnxcam.model import Model
        from onnxcam.preprocess import Preparation
        from onnxcam.settings import find_labels, find_preprocess

        self.model = Model(session, contract)
        self.contract = self.model.contract
        self.method = check_method(method, self.contract)
        self.preprocess = find_preprocess(self.model, preprocess)
        self.labels = find_labels(self.model, labels)
        self._preparation: Preparation | None = None
        if self.preprocess is not None:
            info = self.contract.picture
            self._preparation = Preparation(self.preprocess, info.layout, info.dtype)
        self._spare: list[Workspace] = []

    @property
    def preparation(self) -> Preparation:
        """From pictures to the model's input.

        Raises:
            PreprocessError: neither the file nor the engine says how to make a tensor of a picture.
        """
        if self._preparation is None:
            raise PreprocessError(
                "the file does not say how to make its input of a picture: give --preprocess, in "
                "Python preprocess= (imagenet, caffe, tf, unit, or a JSON file), or hand a tensor "
                "to maps()"
            )
        return self._preparation

    @property
    def providers(self) -> list[str]:
        """The execution providers in use."""
        return self.model.session.providers

    @property
    def placement(self) -> Placement:
        """Which of the model's nodes run where: what a provider can't do falls to the CPU."""
        return self.model.session.placement

    @overload
    def explain(  # type: ignore[overload-overlap]  # bytes are a Sequence to mypy
        self,
        picture: PictureLike,
        target: int | str | None = None,
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> Result: ...

    @overload
    def explain(
        self,
        picture: PictureLike,
        target: Sequence[int | str | None],
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> list[Result]: ...

    @overload
    def explain(
        self,
        picture: Sequence[PictureLike],
        target: int | str | Sequence[int | str | None] | None = None,
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> list[Result]: ...

    def explain(
        self,
        picture: Any,
        target: Any = None,
        method: str | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> Any:
        """Predict and explain pictures.

        Args:
            picture: what :func:`onnxcam.pictures.open_picture` reads, or several: a list, or a
                uint8 array [N, H, W, C]. Where the model's batch size is open they run as one
                batch, so a long list wants as much memory.
            target: None or -1 for the class with the highest score, an index, or a class name;
                for several pictures also a list, one target each; for one picture also a list
                of at most K targets, where the file takes K of them (`--targets K`).
            method: a key of :data:`onnxcam.methods.METHODS`; None for the engine's.
            layer: which of the file's layers, by number or name; the first by default.
            inputs: the model's further inputs by name. An array as long as there are pictures
                is shared out among them, one item each.

        Returns:
            A Result, or a list of them for several pictures, or for several targets of one.

        Raises:
            PreprocessError: neither the file nor the engine says how to make a tensor of a picture.
            PictureError: a picture can't be read.
            TargetError: an unknown class, or another number of targets than pictures.
            LayerError: the file has no such layer.
            InputError: a further input is missing, unknown, or of another shape or dtype.
            MethodError: an unknown method.
            ModelError: the run fails.
        """
        from onnxcam.explaining import explain

        workspace = self._borrow()
        try:
            return explain(self, workspace, picture, target, method, layer, inputs)
        finally:
            self._spare.append(workspace)

    def maps(
        self,
        tensor: NDArray[Any],
        targets: Any = None,
        method: str | None = None,
        signed: bool = False,
        out: NDArray[np.float32] | None = None,
        *,
        layer: int | str | None = None,
        inputs: Mapping[str, NDArray[Any]] | None = None,
    ) -> NDArray[np.float32]:
        """The maps of a finished input tensor.

        Args:
            tensor: the model's input, of its own dtype and shape, finite.
            targets: None for the highest score; one class index for all images; or integers [N]
                ([N, K] for a file that takes K targets an image), -1 for the highest score.
            method: a key of :data:`onnxcam.methods.METHODS`; None for the engine's.
            signed: give the raw maps, before ReLU and scaling (NaN where the model gives NaN).
            out: float32, contiguous, of the result's shape, to write into.
            layer: which of the file's layers, by number or name; the first by default.
            inputs: the model's further inputs, by name.

        Returns:
            Float32 [N, h, w] in [0, 1] ([N, K, h, w] for K targets): ReLU, divided by its
            maximum, zero where that says nothing. [N, l] or [N, d, h, w] for 1-D and 3-D models.

        Raises:
            InputError: tensor, `out` or a further input of another shape or dtype, non-finite
                values, or a further input missing.
            LayerError: the file has no such layer.
            TargetError: targets of another shape, or out of range.
            MethodError: an unknown method, or `signed` of a file that emits the finished map.
            ModelError: the run fails.
        """
        from onnxcam.attribution import Maps, check_method
        from onnxcam.targets import check_targets

        model = self.model
        name = check_method(self.method if method is None else method, self.contract)
        if signed and self.contract.emit == "heatmap":
            raise MethodError(
                "signed: the file emits the finished map; export with emit='gradient'"
            )
        model.picture_input.check(tensor)
        index = model.find_layer(layer)
        feeds = model.checked_inputs(model.named_inputs(inputs))
        feeds[self.contract.picture.name] = np.ascontiguousarray(tensor)
        wanted = check_targets(targets, len(tensor), model.targets_per_image, model.classes)
        result = Maps(model.targets_per_image is not None, out)
        workspace = self._borrow()
        try:
            outputs = model.run(feeds, wanted, model.cam_outputs(index), workspace.binding.run)
            own = ("raw" if signed else "finished",)
            workspace.attribute(outputs, name, index, own=own, place=result.place)
        finally:
            self._spare.append(workspace)
        return result.array

    def find_layer(self, layer: int | str | None) -> int:
        """The number of one of the file's layers, given by number, name, or None for the first.

        A name that is a number is taken for one where no layer is called so.

        Raises:
            LayerError: the file has no such layer.
        """
        return self.model.find_layer(layer)

    def _borrow(self) -> Workspace:
        """A workspace that no other thread uses; there are as many as threads ran at once."""
        try:
            return self._spare.pop()
        except IndexError:
            from onnxcam.workspace import Workspace

            return Workspace(self.model)
