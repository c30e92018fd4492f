"""The cases of every row of the table of derivatives, over its variants."""

from __future__ import annotations

import numpy as np

from helpers_gradients import Case

RNG = np.random.default_rng(7)


def real(*shape):
    """Distinct values of both signs, none near 0, so that no kink lies within a step."""
    values = RNG.permutation(np.linspace(0.15, 2.4, int(np.prod(shape)) if shape else 1))
    values += RNG.uniform(0, 1e-3, values.shape)
    return (values * RNG.choice([-1, 1], values.shape)).reshape(shape)


def positive(*shape):
    return np.abs(real(*shape))


def ints(*values):
    return np.array(values, np.int64)


def unary(name, make=real, note="", **attributes):
    return Case(name, (make(2, 3, 4),), attributes, note=note)


def resizes():
    """Modes as PyTorch and tf2onnx write them, and the rest: note, shape, scales, sizes, attributes."""
    plain = (2, 3, 4, 5)
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for transformation in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            a = {
                "mode": "nearest",
                "nearest_mode": nearest,
                "coordinate_transformation_mode": transformation,
            }
            yield f"nearest {nearest} {transformation}", plain, None, ints(2, 3, 7, 3), a
    a = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    yield "nearest twice", plain, np.array([1, 1, 2, 3], np.float32), None, a
    yield "nearest twice, one axis", plain, np.array([1, 1, 1, 2], np.float32), None, a
    for mode in ("linear", "cubic"):
        for transformation in (
            "half_pixel",
            "half_pixel_symmetric",
            "asymmetric",
            "align_corners",
            "pytorch_half_pixel",
        ):
            a = {"mode": mode, "coordinate_transformation_mode": transformation}
            yield f"{mode} {transformation}", plain, None, ints(2, 3, 7, 3), a
            yield (
                f"{mode} {transformation} scales",
                plain,
                np.array([1, 1, 1.5, 0.6], np.float32),
                None,
                a,
            )
    yield (
        "cubic a, outside",
        plain,
        None,
        ints(2, 3, 8, 3),
        {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
    )
    yield "linear 1-D", (2, 3, 5), None, ints(2, 3, 8), {"mode": "linear"}
    yield "linear 3-D", (1, 2, 2, 3, 2), None, ints(1, 2, 3, 2, 5), {"mode": "linear"}


def grids():
    """Positions inside and beyond the picture, on either side of every border; all modes."""
    for old, new in (("bilinear", "linear"), ("nearest", "nearest"), ("bicubic", "cubic")):
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                a = {"padding_mode": padding, "align_corners": corners}
                x, grid = real(2, 3, 4, 5), RNG.uniform(-2.6, 2.6, (2, 3, 5, 2))
                yield f"{old} {padding} corners {corners}", x, grid, a | {"mode": old}, 18, {}
                x, grid = real(1, 2, 3, 4, 3), RNG.uniform(-1.9, 1.9, (1, 2, 3, 2, 3))
                note = f"3-D {new} {padding} corners {corners}"
                # no 3-D cubic kernel in onnxruntime
                kernel = {"in_onnxruntime": new != "cubic"}
                yield note, x, grid, a | {"mode": new}, 20, kernel
    yield "defaults", real(2, 3, 4, 5), RNG.uniform(-1.2, 1.2, (2, 3, 5, 2)), {}, 20, {}
    x, grid = real(2, 3, 4, 1), RNG.uniform(-2.6, 2.6, (2, 3, 5, 2))
    yield "one pixel", x, grid, {"padding_mode": "reflection"}, 20, {}
    for padding in ("zeros", "border", "reflection"):
        x, grid = real(2, 3, 4, 5), RNG.uniform(-2.6, 2.6, (2, 3, 5, 2))
        yield f"open size {padding}", x, grid, {"padding_mode": padding}, 20, {"dynamic": True}


def deformations():
    """Offsets inside and beyond the border: note, inputs, attributes, more."""

    def offsets(batch, count, *sizes):  # no tap within a step of a pixel
        return RNG.integers(-2, 2, (batch, count, *sizes)) + RNG.uniform(
            0.1, 0.9, (batch, count, *sizes)
        )

    yield "plain", (real(2, 3, 5, 6), real(4, 3, 3, 2), offsets(2, 12, 3, 5)), {}, {}
    everything = (
        real(2, 4, 5, 6),
        real(6, 2, 3, 3),
        offsets(2, 36, 3, 3),
        real(6),
        positive(2, 18, 3, 3),
    )
    a = {
        "group": 2,
        "offset_group": 2,
        "pads": [1, 1, 1, 1],
        "strides": [2, 2],
        "kernel_shape": [3, 3],
    }
    yield "groups, mask", everything, a, {}
    a = {"dilations": [2, 1], "pads": [2, 1, 0, 0]}
    yield "dilated", (real(1, 2, 5, 5), real(3, 2, 2, 2), offsets(1, 8, 5, 5)), a, {}
    no_bias = (real(1, 2, 4, 4), real(2, 2, 2, 2), offsets(1, 8, 3, 3), None, positive(1, 4, 3, 3))
    yield "mask without bias", no_bias, {}, {}
    yield "one pixel high", (real(1, 2, 1, 4), real(2, 2, 1, 2), offsets(1, 4, 1, 3)), {}, {}


def regions():
    """Regions inside, across the border and outside; note, regions, attributes, open."""
    rois = np.array([[0.37, 0.91, 4.2, 5.3], [3.1, 2.2, 9.4, 8.7], [-3.2, -2.9, 0.6, 2.5],
                     [1.2, 1.4, 1.5, 1.7], [11.3, 9.1, 12.2, 13.6]])  # fmt: skip
    for half in ("half_pixel", "output_half_pixel"):
        for ratio in (0, 1, 2, 3):
            a = {"output_height": 3, "output_width": 2, "sampling_ratio": ratio,
                 "coordinate_transformation_mode": half, "spatial_scale": 0.9}  # fmt: skip
            yield f"{half} ratio {ratio}", rois, a, False
            yield f"open {half} ratio {ratio}", rois, a, True
    yield "defaults", rois, {}, False


def recurrences():
    """LSTM, GRU and RNN in every direction: inputs, attributes, outputs, constants, note."""
    steps, batch, width, hidden = 4, 2, 3, 5
    for name, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for way in ("forward", "reverse", "bidirectional"):
            sides = 2 if way == "bidirectional" else 1
            given = [real(steps, batch, width), real(sides, gates * hidden, width) / 2]
            given += [real(sides, gates * hidden, hidden) / 3, real(sides, 2 * gates * hidden) / 2]
            a = {"direction": way, "hidden_size": hidden}
            outputs = 3 if name == "LSTM" else 2
            yield name, tuple(given[:3]), a, 1, f"{way} no bias", {}
            for reset in (0, 1) if name == "GRU" else (None,):
                more = {} if reset is None else {"linear_before_reset": reset}
                states = [real(sides, batch, hidden) for _ in range(outputs - 1)]
                note = f"{way} {more or ''} states"
                yield name, (*given, None, *states), a | more, outputs, note, {}
    given = (real(steps, batch, width), real(1, hidden, width), real(1, hidden, hidden) / 3)
    lengths = (None, np.full(batch, steps, np.int32))
    yield "RNN", (*given, *lengths), {"hidden_size": hidden}, 2, "lengths", {}
    given = (real(1, batch, width), real(1, 4 * hidden, width), real(1, 4 * hidden, hidden) / 3)
    yield "LSTM", given, {"hidden_size": hidden}, 3, "one step", {}


X = real(2, 3, 7, 6)
CONV = {"kernel_shape": [3, 3]}

CASES = [
    *[unary(n) for n in "Neg Abs Exp Reciprocal Erf Sin Cos Identity".split()],
    *[unary(n) for n in "Relu LeakyRelu Elu Selu Sigmoid Tanh Softplus HardSigmoid".split()],
    *[unary(n, positive) for n in ("Log", "Sqrt")],
    unary("LeakyRelu", note="alpha", alpha=0.3),
    unary("Elu", note="alpha", alpha=0.5),
    unary("HardSigmoid", note="alpha", alpha=0.3, beta=0.4),
    Case("HardSwish", (4 * real(2, 3, 4),)),
    Case("Gelu", (real(2, 3, 4),), opset=20),
    Case("Gelu", (real(2, 3, 4),), {"approximate": "tanh"}, opset=20, note="tanh"),
    Case("Mish", (real(2, 3, 4),)),
    Case("Swish", (real(2, 3, 4),), {"alpha": 1.3}, opset=24, in_onnxruntime=False),
    Case("PRelu", (real(2, 3, 4), positive(3, 1)), note="per channel"),
    *[unary(n, note=f"axis {axis}", axis=axis) for n in ("Softmax", "LogSoftmax") for axis in (-1, 1)],
    *[unary(n) for n in "Tan Atan Sinh Cosh Asinh Softsign Celu ThresholdedRelu Shrink".split()],
    *[unary(n, lambda *s: real(*s) / 3) for n in "Asin Acos Atanh".split()],
    unary("Acosh", lambda *s: 1 + positive(*s)),
    unary("Celu", note="alpha", alpha=0.6),
    unary("Shrink", note="bias", bias=0.3, lambd=0.8),
    # arithmetic and its broadcasting
    *[
        Case(n, (real(2, 3, 4), real(*other)), note=str(other))
        for n in ("Add", "Sub", "Mul", "Div", "Max", "Min")
        for other in ((2, 3, 4), (3, 1), (1, 3, 4), (4,), ())
    ],
    Case("Add", (real(3, 1), real(2, 3, 4)), note="first broadcast"),
    Case("Pow", (positive(2, 3), real(3))),
    Case("Pow", (real(2, 3), np.array(2.0)), constants=(1,), note="square"),
    Case("Mod", (real(2, 3), positive(2, 3) + 3), {"fmod": 1}),
    Case("Mod", (positive(2, 3) + 3, positive(2, 3)), {"fmod": 1}, note="divisor"),
    Case("Sum", (real(2, 3), real(3), real(2, 1))),
    Case("Mean", (real(2, 3), real(3), real(2, 1))),
    Case("Max", (real(2, 3), real(3), real(2, 1)), note="three"),
    Case("Where", (np.array([[True], [False]]), real(2, 3), real(3))),
    Case("Clip", (real(2, 3, 4), np.array(-1.0), np.array(1.3)), constants=(1, 2)),
    Case("Clip", (real(2, 3, 4), np.array(-1.0), np.array(1.3)), note="computed bounds"),
    Case("Clip", (real(2, 3, 4), np.array(1.3), np.array(-1.0)), note="crossing bounds"),
    Case("Clip", (real(2, 3, 4), np.array(-1.0)), note="computed lower bound"),
    Case("Clip", (real(2, 3, 4), None, np.array(0.7)), note="computed upper bound"),
    Case("Clip", (real(2, 3, 4), np.array(0.0)), constants=(1,), note="one side"),
    Case("Clip", (real(2, 3, 4), None, np.array(0.4)), constants=(2,), note="upper side"),
    Case("Cast", (real(2, 3),), {"to": 11}, in_onnxruntime=False),
    Case("CastLike", (real(2, 3), real(1)), constants=(1,)),
    Case("Dropout", (real(2, 3),)),
    # dense
    *[
        Case("Gemm", (real(*((5, 4) if ta else (4, 5))), real(*((3, 5) if tb else (5, 3))), real(3)),
             {"transA": ta, "transB": tb, "alpha": 0.7, "beta": 1.3}, note=f"transA {ta} transB {tb}")
        for ta in (0, 1)
        for tb in (0, 1)
    ],
    Case("Gemm", (real(4, 5), real(5, 3)), note="no bias"),
    *[
        Case("MatMul", (real(*a), real(*b)), note=f"{a} {b}")
        for a, b in [((4, 5), (5, 3)), ((2, 4, 5), (5, 3)), ((2, 4, 5), (2, 5, 3)), ((2, 1, 4, 5), (3, 5, 2)),
                     ((5,), (5, 3)), ((4, 5), (5,)), ((5,), (5,)), ((2, 4, 5), (5,)), ((5,), (2, 5, 3))]
    ],
    *[
        Case("Einsum", tuple(real(*shape) for shape in shapes), {"equation": e}, note=e)
        for e, shapes in [
            ("ij,jk->ik", ((2, 3), (3, 4))),
            ("bhid,bhjd->bhij", ((2, 2, 3, 4), (2, 2, 5, 4))),
            ("...ij,...jk->...ik", ((2, 1, 3, 4), (1, 3, 4, 2))),
            ("ij,ij", ((2, 3), (2, 3))),
            ("bchw->bc", ((2, 3, 2, 2),)),
            ("i,j,k->ikj", ((2,), (3,), (2,))),
            ("bc...,dc -> bd...", ((2, 3, 4), (5, 3))),
        ]
    ],
    # convolution
    *[
        Case("Conv", (real(2, 4, 7, 6), real(6, 4 // a.get("group", 1), 3, 2)), a, note=f"computed weight {a}",
             in_reference="group" not in a and "strides" not in a)
        for a in ({}, {"strides": [2, 3], "pads": [1, 0, 2, 1]}, {"dilations": [2, 1], "group": 2},
                  {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"strides": [3, 4]})
    ],
    Case("ConvTranspose", (real(2, 3, 4, 5), real(3, 2, 3, 3), real(2)), {"strides": [2, 2], "pads": [1, 0, 0, 1]},
         note="computed weight"),
    Case("ConvTranspose", (real(1, 4, 3), real(4, 2, 3)), {"strides": [2], "output_padding": [1]},
         note="computed weight, 1-D", in_reference=False),
    *[
        Case("Conv", (X, real(4, 3, 3, 3), real(4)), a, active=(0, 2), constants=(1,), note=note)
        for note, a in {
            "valid": {},
            "pads": {"pads": [1, 0, 2, 1]},
            "strides": {"strides": [2, 3], "pads": [1, 1, 1, 1]},
            "strides, pixels never read": {"strides": [3, 2]},
            "dilations": {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
            "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
            "auto valid": {"auto_pad": "VALID", "strides": [2, 1]},
        }.items()
    ],
    Case("Conv", (X, real(6, 1, 3, 3)), {"group": 3, "pads": [1, 1, 1, 1]}, (0,), (1,), note="depthwise",
         in_reference=False),
    Case("Conv", (real(1, 4, 5, 5), real(6, 2, 1, 1)), {"group": 2}, (0,), (1,), note="grouped 1x1",
         in_reference=False),
    Case("Conv", (real(2, 3, 9), real(4, 3, 3)), {"strides": [2]}, (0,), (1,), note="1-D"),
    Case("Conv", (real(1, 2, 5, 4, 5), real(3, 2, 2, 2, 3)), {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1]},
         (0,), (1,), note="3-D"),
    Case("Conv", (X, real(4, 3, 3, 3)), {"pads": [1, 0, 1, 2], "strides": [2, 2]}, (0,), (1,), dynamic=True,
         note="open size"),
    *[
        Case("ConvTranspose", (real(1, 3, 4, 5), real(3, 2, 3, 3)), a, (0,), (1,), note=note)
        for note, a in {
            "plain": {},
            "strides": {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
            "dilations": {"dilations": [2, 1], "pads": [1, 0, 0, 1]},
            "output shape": {"strides": [2, 2], "output_shape": [9, 11]},
        }.items()
    ],
    # pooling
    *[
        # onnx's reference MaxPool gives wrong indices for the default strides
        Case(n, (X,), {"kernel_shape": [3, 2], **a}, note=note, in_reference=note != "overlapping")
        for n in ("MaxPool", "AveragePool")
        for note, a in {
            "overlapping": {},
            "strides": {"strides": [3, 2]},
            "pads": {"strides": [2, 1], "pads": [1, 0, 1, 1]},
            "ceil": {"strides": [2, 2], "ceil_mode": 1},
            "same": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        }.items()
    ],
    Case("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
         note="count_include_pad"),
    Case("AveragePool", (X,), {"kernel_shape": [7, 6]}, note="whole"),
    Case("AveragePool", (X,), {"kernel_shape": [1, 1]}, note="of one pixel"),
    Case("MaxPool", (real(2, 3, 9),), {"kernel_shape": [3], "strides": [2]}, note="1-D"),
    Case("MaxPool", (X,), {"kernel_shape": [2, 2], "strides": [2, 2]}, dynamic=True, note="open size"),
    Case("AveragePool", (real(1, 2, 4, 5, 6),), {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}, note="3-D"),
    Case("GlobalAveragePool", (X,)),
    Case("GlobalAveragePool", (X,), dynamic=True, note="open size"),
    Case("GlobalMaxPool", (X,)),
    Case("MaxPool", (X,), {"kernel_shape": [2, 2], "dilations": [2, 3], "strides": [1, 1]}, note="dilations"),
    Case("MaxPool", (X,), {"kernel_shape": [2, 3], "strides": [2, 1], "storage_order": 1}, note="column major"),
    Case("AveragePool", (X,), {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 0, 1, 1]}, opset=19, note="dilations"),
    Case("AveragePool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1,
                               "count_include_pad": 1}, opset=19, note="ceil, count_include_pad"),
    *[
        Case("LpPool", (X,), {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "p": p}, note=f"p {p}")
        for p in (1, 2, 3)
    ],
    *[Case("GlobalLpPool", (X,), {"p": p}, note=f"p {p}") for p in (1, 2, 3)],
    Case("MaxUnpool", (real(1, 2, 3, 2), ints(*range(0, 48, 4)).reshape(1, 2, 3, 2)), {"kernel_shape": [2, 2], "strides": [2, 2]},
         constants=(1,)),
    # reductions
    *[
        Case(n, (positive(2, 3, 4), ints(*axes)), {"keepdims": keep}, note=f"{axes} keep {keep}")
        for n in "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
        "ReduceLogSum ReduceLogSumExp".split()
        for axes, keep in (((1,), 1), ((-1, 0), 0))
    ],
    Case("ReduceMean", (real(2, 3, 4),), {"keepdims": 0}, note="all axes"),
    Case("ReduceMean", (real(2, 3, 4), ints(1, 2)), dynamic=True, note="open size"),
    # normalisation
    Case("BatchNormalization", (X, real(3), real(3), real(3), positive(3)), {"epsilon": 1e-3}, (0,), (1, 2, 3, 4)),
    Case("BatchNormalization", (X, real(3), real(3), real(3), positive(3)), active=(0,), note="not constant"),
    Case("BatchNormalization", (X, real(3), real(3), real(3), positive(3)), note="all computed"),
    Case("BatchNormalization", (real(4, 3), real(3), real(3), real(3), positive(3)), note="all computed, of rows"),
    Case("LayerNormalization", (real(2, 3, 4), real(4), real(4)), note="all computed"),
    Case("LayerNormalization", (real(2, 3, 4), real(2, 1, 4), real(1, 4)), {"axis": 2}, note="scale a picture"),
    Case("LayerNormalization", (real(2, 3, 4), real(3, 4), real(3, 4)), {"axis": 1}, dynamic=True, note="open size"),
    Case("InstanceNormalization", (X, real(3), real(3)), {"epsilon": 1e-3}, note="all computed"),
    Case("GroupNormalization", (real(2, 6, 3, 2), real(6), real(6)), {"num_groups": 3}, opset=21, note="all computed"),
    Case("GroupNormalization", (real(2, 6, 3, 2), real(3), real(3)), {"num_groups": 3}, note="all computed, opset 18"),
    Case("LayerNormalization", (real(2, 3, 4), real(4), real(4)), {"axis": -1}, (0,), (1, 2)),
    Case("LayerNormalization", (real(2, 3, 4), real(3, 4)), {"axis": 1, "epsilon": 1e-2}, (0,), (1,), note="axis 1"),
    Case("InstanceNormalization", (X, real(3), real(3)), {"epsilon": 1e-3}, (0,), (1, 2)),
    *[
        Case("GroupNormalization", (real(2, 6, 3, 2), real(size), real(size)), {"num_groups": 3, "epsilon": 1e-3},
             (0,), (1, 2), opset=opset, note=f"opset {opset}")
        for opset, size in ((18, 3), (21, 6))
    ],
    *[Case("LpNormalization", (real(2, 3, 4),), {"p": p, "axis": 1}, note=f"p {p}") for p in (1, 2)],
    *[Case("LRN", (real(2, 7, 3, 2),), {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5}, note=f"size {size}",
           in_onnxruntime=size % 2 == 1) for size in (3, 4)],
    # functions of the standard
    Case("MeanVarianceNormalization", (real(2, 3, 4, 2),), {"axes": [0, 2, 3]}),
    Case("RMSNormalization", (real(2, 3, 4), real(4)), {"epsilon": 1e-2}, opset=23),
    Case("RotaryEmbedding", (real(1, 2, 3, 4), real(1, 3, 2), real(1, 3, 2)), opset=23),
    Case("Attention", (real(1, 2, 3, 4), real(1, 2, 5, 4), real(1, 2, 5, 4)), opset=23),
    Case("Attention", (real(1, 3, 8), real(1, 5, 8), real(1, 5, 8), real(3, 5)),
         {"q_num_heads": 2, "kv_num_heads": 2, "scale": 0.4, "softcap": 2.0}, opset=23, note="heads, mask"),
    Case("CenterCropPad", (real(5, 4), ints(3, 6)), {"axes": [0, 1]}, constants=(1,)),
    # layout
    Case("Reshape", (real(2, 3, 4), ints(2, -1)), constants=(1,)),
    Case("Reshape", (real(2, 3, 4), ints(4, 6)), constants=(1,), dynamic=True, note="open size"),
    Case("Flatten", (real(2, 3, 4),)),
    Case("Squeeze", (real(2, 1, 4), ints(1)), constants=(1,)),
    Case("Unsqueeze", (real(2, 4), ints(1, 3)), constants=(1,)),
    Case("Transpose", (real(2, 3, 4),), {"perm": [1, 2, 0]}),
    Case("Transpose", (real(2, 3, 4),), note="default"),
    Case("Concat", (real(2, 3), real(2, 1), real(2, 4)), {"axis": 1}),
    Case("Concat", (real(2, 3), real(4, 3)), {"axis": -2}, dynamic=True, note="open size"),
    Case("Split", (real(2, 6), ints(1, 3, 2)), {"axis": 1}, outputs=3, constants=(1,)),
    Case("Split", (real(2, 6),), {"axis": 1, "num_outputs": 2}, outputs=2, note="equal"),
    Case("Pad", (real(2, 3), ints(1, 0, 2, 3), np.array(0.5)), constants=(1, 2)),
    Case("Pad", (real(2, 3, 4), ints(1, 2), None, ints(-1)), constants=(1, 3), note="axes"),
    *[
        Case("Pad", (real(2, 3, 4, 5), ints(1, 3, 2, 2), None, ints(-2, 3)), {"mode": mode}, constants=(1, 3), opset=19,
             note=mode)
        for mode in ("reflect", "edge", "wrap")
    ],
    Case("DepthToSpace", (real(2, 8, 2, 3),), {"blocksize": 2}),
    Case("DepthToSpace", (real(2, 8, 2, 3),), {"blocksize": 2, "mode": "CRD"}, note="CRD"),
    Case("SpaceToDepth", (real(2, 3, 4, 6),), {"blocksize": 2}),
    *[Case("Trilu", (real(2, 4, 5), np.array(k)), {"upper": upper}, constants=(1,), note=f"k {k} upper {upper}")
      for k in (-1, 1) for upper in (0, 1)],
    *[Case("CumSum", (real(3, 4), np.array(1)), {"exclusive": e, "reverse": r}, constants=(1,), note=f"exclusive {e} reverse {r}")
      for e in (0, 1) for r in (0, 1)],
    Case("Tile", (real(2, 3), ints(2, 3)), constants=(1,)),
    Case("Tile", (real(2, 1, 4), ints(1, 3, 2)), constants=(1,), note="one size 1"),
    *[Case("Resize", (real(*shape), None, scales, sizes), a, constants=(2, 3), note=note, opset=19, tolerance=5e-6)
      for note, shape, scales, sizes, a in resizes()],
    Case("Resize", (real(1, 2, 3, 4), None, np.array([1, 1, 2, 3.0], np.float32)),
         {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, constants=(2,),
         dynamic=True, note="open size"),
    Case("Slice", (real(4, 6), ints(1, -4), ints(3, 100)), constants=(1, 2)),
    Case("Slice", (real(4, 6), ints(1), ints(6), ints(1), ints(2)), constants=(1, 2, 3, 4), note="step"),
    Case("Slice", (real(4, 6), ints(-1), ints(-100), ints(1), ints(-2)), constants=(1, 2, 3, 4), note="backwards"),
    Case("Slice", (real(4, 6), ints(0, 2), ints(2**31 - 1, 2**63 - 1)), constants=(1, 2), note="open axes", dynamic=True),
    Case("Slice", (real(4, 6), ints(1, 0), ints(-2, -1)), constants=(1, 2), note="open axes, from the end", dynamic=True),
    Case("Gather", (real(3, 5), ints(4, 0, 0)), {"axis": 1}, constants=(1,)),
    Case("Gather", (real(3, 5, 2), np.array(2)), {"axis": 1}, constants=(1,), note="scalar"),
    Case("Gather", (real(3, 5, 2), np.array([[0, 2], [2, 1]])), {"axis": 0}, constants=(1,), note="matrix"),
    Case("Gather", (real(3, 5), ints(1, 2, 3)), {"axis": 1}, constants=(1,), note="run"),
    Case("Gather", (real(3, 5), ints(1, -2, 0, 2, 3)), {"axis": 1}, constants=(1,), note="permutation"),
    Case("Gather", (real(3, 5, 2), ints(4, -1, 0, 4).reshape(2, 2)), {"axis": 1}, constants=(1,), dynamic=True,
         note="open size"),
    Case("Gather", (real(3, 5), np.array(1)), {"axis": 0}, constants=(1,), dynamic=True, note="open size, scalar"),
    Case("GatherElements", (real(3, 4), ints(0, 2, 2, -1, 1, 1).reshape(3, 2)), {"axis": 1}, constants=(1,)),
    Case("GatherND", (real(3, 4, 2), ints(0, 1, 2, 3, 0, 1).reshape(3, 2)), constants=(1,)),
    Case("GatherND", (real(2, 3, 4), ints(1, 0, 0, 2).reshape(2, 2, 1)), {"batch_dims": 1}, constants=(1,), note="batch"),
    *[Case("ScatterElements", (real(3, 4), ints(0, 2, 3, 1, 1, 3).reshape(3, 2), real(3, 2)), {"axis": 1, "reduction": r},
           constants=(1,), note=r) for r in ("none", "add")],
    *[Case("ScatterND", (real(4, 3), ints(2, 0).reshape(2, 1), real(2, 3)), {"reduction": r}, constants=(1,), note=r)
      for r in ("none", "add")],
    Case("TopK", (real(3, 6), ints(2)), {"axis": 1}, constants=(1,), outputs=2),
    Case("Expand", (real(3, 1), ints(2, 3, 4)), constants=(1,)),
    *[Case(name, inputs, a, active=tuple(p for p in (0, 5, 6) if p < len(inputs) and inputs[p] is not None),
           constants=(1, 2, 3, 4), outputs=outputs, note=note, **more)
      for name, inputs, a, outputs, note, more in recurrences()],
    Case("ReverseSequence", (real(4, 3, 2), ints(4, 2, 1)), constants=(1,)),
    Case("ReverseSequence", (real(3, 4, 2), ints(4, 2, 1)), {"batch_axis": 0, "time_axis": 1}, constants=(1,), note="batch first"),
    Case("Col2Im", (real(2, 12, 16), ints(5, 6), ints(2, 3)), constants=(1, 2), active=(0,), note="2-D"),
    Case("Col2Im", (real(2, 8, 6), ints(5, 5), ints(2, 2)), {"strides": [2, 3], "pads": [1, 0, 1, 1], "dilations": [2, 1]},
         constants=(1, 2), active=(0,), note="strides, pads, dilations"),
    Case("Col2Im", (real(1, 6, 4), ints(6), ints(3)), constants=(1, 2), active=(0,), note="1-D"),
    Case("Col2Im", (real(1, 16, 12), ints(3, 3, 4), ints(2, 2, 2)), constants=(1, 2), active=(0,), note="3-D"),
    Case("Col2Im", (real(2, 12, 16), ints(5, 6), ints(2, 3)), constants=(1, 2), active=(0,), note="open size", dynamic=True),
    # sampling at computed positions
    *[Case("DeformConv", inputs, a, opset=19, note=note, **more) for note, inputs, a, more in deformations()],
    *[Case("RoiAlign", (real(2, 3, 6, 8), rois, ints(0, 1, 1, 0, 1)), a, constants=(2,), dynamic=open_, note=note)
      for note, rois, a, open_ in regions()],
    Case("RoiAlign", (real(1, 3, 6, 8), next(regions())[1], ints(0, 0, 0, 0, 0)), {"output_height": 2, "sampling_ratio": 2},
         constants=(2,), note="one picture"),
    Case("RoiAlign", (real(2, 3, 6, 8), next(regions())[1], ints(0, 1, 1, 0, 1)), {"output_height": 2, "sampling_ratio": 2},
         active=(0,), constants=(1, 2), note="fixed regions"),
    *[Case("AffineGrid", (real(2, axes, axes + 1), ints(2, 3, *size)), {"align_corners": corners}, constants=(1,), opset=20,
           note=f"{axes}-D corners {corners}")
      for axes, size in ((2, (4, 5)), (3, (2, 4, 3))) for corners in (0, 1)],
    *[Case("GridSample", (x, grid), a, opset=opset, note=note, **more) for note, x, grid, a, opset, more in grids()],
]  # fmt: skip
