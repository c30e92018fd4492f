"""The opset of the written file: whatever it is, onnxruntime's own kernels compute the same."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import onnx
import onnx.helper as oh
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array

from helpers_gradients import forward_model, graph_with_gradients
from helpers_onnx import SHARED_DATA, needs_shared_data, small_network
from helpers_rule_cases import CASES as RULE_CASES
from onnxcam.cli import main
from onnxcam.errors import ExportError, OnnxcamError
from onnxcam_export import from_onnx
from onnxcam_export.lowered.older import RAISED, ROWS
from onnxcam_export.opsets import HIGHEST_WRITTEN, LOWEST_WRITTEN, REVIEWED, written_as

RNG = np.random.default_rng(23)
PICTURES = RNG.standard_normal((2, 3, 16, 16)).astype(np.float32)


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def floats(*values):
    return np.array(values, np.float32)


def ints(*values):
    return np.array(values, np.int64)


X = real(2, 4, 6, 5)
GRID = RNG.uniform(-1.2, 1.2, (2, 3, 5, 2)).astype(np.float32)
REGIONS = [floats([0.3, 0.9, 4.2, 3.3], [1, 1, 3, 4]), ints(0, 1)]
HALVES = real(2, 4, 6).astype(np.float16)

# operator, the change, inputs (behind the first: constants), attributes, outputs
ROW_CASES = [
    ("HardSwish", 14, [4 * X], {}, 1),
    ("Reshape", 14, [X, ints(2, -1, 3)], {"allowzero": 1}, 1),
    ("CastLike", 15, [X, real(1).astype(np.float16)], {}, 1),
    *[("Shape", 15, [X], a, 1) for a in ({}, {"start": 1}, {"start": -3, "end": -1}, {"end": 2})],
    ("RoiAlign", 16, [X, *REGIONS], {"coordinate_transformation_mode": "output_half_pixel"}, 1),
    *[("LayerNormalization", 17, [X, *rest], a, 1)
      for rest, a in [([real(5), real(5)], {}), ([real(6, 5)], {"axis": 2, "epsilon": 0.1})]],
    ("LayerNormalization", 17, [HALVES, *[real(6).astype(np.float16) for _ in "ab"]], {}, 1),
    *[(f"Reduce{kind}", 18, [np.abs(X) + 0.1, *axes], a, 1)
      for kind in "L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare".split()
      for axes, a in [([ints(1, -1)], {"keepdims": 0}), ([], {}),
                      ([ints()], {"noop_with_empty_axes": 1})]],
    *[(f"ReduceL{n}", 18, [X], {"noop_with_empty_axes": 1}, 1) for n in (1, 2)],
    ("LpPool", 18, [X], {"kernel_shape": [2, 3], "dilations": [1, 1], "p": 2}, 1),
    ("Mish", 18, [3 * X], {}, 1),
    *[("Pad", 18, [X, pads, floats(0.4)[0], axes], {}, 1)
      for pads, axes in [(ints(1, 2, 0, 3), ints(-1, 1)), (ints(0, -1), ints(2))]],
    ("Pad", 18, [X, ints(1, 1), None, ints(2)], {"mode": "reflect"}, 1),
    *[("Resize", 18, [X, None, *how], {"axes": [3, 2], "mode": "linear"}, 1)
      for how in ([floats(2, 1.5)], [None, ints(7, 4)])],
    *[("ScatterElements", 18, [X, np.zeros((2, 1, 6, 5), np.int64), real(2, 1, 6, 5)],
       {"axis": 1} | a, 1) for a in ({}, {"reduction": "mul"})],
    ("ScatterND", 18, [X, ints([1], [1]), real(2, 4, 6, 5)], {"reduction": "add"}, 1),
    *[("Split", 18, [X, *sizes], {"axis": 1} | a, n)
      for sizes, a, n in [([], {"num_outputs": 2}, 2), ([], {"num_outputs": 3}, 3),
                          ([ints(3, 1)], {}, 2)]],
    ("AveragePool", 19, [X], {"kernel_shape": [2, 2], "dilations": [1, 1], "ceil_mode": 1}, 1),
    ("Pad", 19, [X, ints(0, 0, 1, 0, 0, 0, 0, 2)], {"mode": "edge"}, 1),
    ("Resize", 19, [X, None, floats(1, 1, 2, 2)], {"mode": "cubic"}, 1),
    *[("Gelu", 20, [X], {"approximate": a}, 1) for a in ("none", "tanh")],
    *[("GridSample", 20, [X, GRID], a, 1)
      for a in ({}, {"mode": "linear"}, {"mode": "cubic"}, {"mode": "nearest"})],
    ("GroupNormalization", 21, [X, real(4), real(4)], {"num_groups": 2, "epsilon": 1e-2}, 1),
    *[("QuantizeLinear", 21, [X, floats(0.05)[0], *zero], a, 1)
      for zero, a in [([], {"output_dtype": onnx.TensorProto.INT8}), ([np.uint8(100)], {})]],
    ("Swish", 24, [X], {"alpha": 1.3}, 1),
]  # fmt: skip

# What an opset cannot say: operator, the opset of the model, inputs, attributes, opset, reason
REFUSED = [
    ("Reshape", 18, [np.zeros((0, 3), np.float32), ints(3, 0)], {"allowzero": 1}, 13, "a zero"),
    ("RoiAlign", 18, [X, *REGIONS], {}, 15, "half_pixel"),
    ("ScatterND", 18, [X, ints([1]), X[:1]], {"reduction": "max"}, 17, "reduction 'max'"),
    ("ScatterND", 18, [X, ints([1]), X[:1]], {"reduction": "add"}, 15, "no attribute reduction"),
    ("AveragePool", 19, [X], {"kernel_shape": [2, 2], "dilations": [2, 2]}, 18, "dilations"),
    ("Pad", 19, [X, ints(0, 0, 1, 0, 0, 0, 0, 2)], {"mode": "wrap"}, 18, "mode 'wrap'"),
    ("Resize", 19, [X, None, floats(1, 1, 2, 2)],
     {"coordinate_transformation_mode": "half_pixel_symmetric"}, 18, "half_pixel_symmetric"),
    ("Resize", 18, [X, None, floats(1, 1, 0.5, 0.5)], {"mode": "linear", "antialias": 1}, 17,
     "no attribute antialias"),
    ("GridSample", 20, [real(1, 1, 2, 2, 2), real(1, 1, 1, 1, 3)], {}, 19, "other than pictures"),
    ("Trilu", 18, [X], {}, 13, "no such operator; the lowest opset for this file is 14"),
    ("BitwiseNot", 18, [ints(5)], {}, 17, "no such operator"),
    ("DequantizeLinear", 19, [np.uint8([[3]]), np.float16(0.5)], {}, 18, "did not take float16"),
]  # fmt: skip


def session(proto):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])


def runnable(model):
    proto = ir.to_proto(model)
    proto.ir_version = 10
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto, full_check=True)
    return session(proto)


def one_node(op_type, opset, inputs, attributes, outputs=1):
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(inputs)]
    dtype = oh.np_dtype_to_tensor_dtype(np.asarray(inputs[0]).dtype)
    results = [f"y{i}" for i in range(outputs)]
    graph = oh.make_graph(
        [oh.make_node(op_type, names, results, "node", **attributes)],
        "one",
        [oh.make_tensor_value_info("x0", dtype, np.shape(inputs[0]))],
        [onnx.ValueInfoProto(name=name) for name in results],
        [from_array(np.asarray(a), n) for a, n in zip(inputs[1:], names[1:], strict=True) if n],
    )
    proto = oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=10)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
    first = model.graph.outputs[0]
    if first.dtype is None:  # functions whose schema infers nothing
        first.type, first.shape = model.graph.inputs[0].type, model.graph.inputs[0].shape
    return model


def close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        size = max(1, np.abs(b).max(initial=0)) if b.dtype.kind == "f" else 0
        loose = 1e-3 if b.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(a, b, rtol=loose, atol=loose * size)


def can(model, opset):
    try:
        written_as(model, 18, opset)
    except ExportError:
        return False
    return True


@pytest.mark.parametrize("case", ROW_CASES, ids=lambda case: f"{case[0]} {case[1]} {case[3]}")
def test_what_became_another_thing_computes_the_same_in_earlier_opsets(case):
    op_type, since, inputs, attributes, outputs = case
    feed = {"x0": inputs[0]}
    model = one_node(op_type, max(since, 18), inputs, attributes, outputs)
    if op_type == "Swish":  # onnxruntime has no kernel
        expected = [X / (1 + np.exp(-1.3 * X))]
    else:
        expected = runnable(model).run(None, feed)
    before = model.opset_imports[""]
    written = 0
    for opset in {min(since - 1, HIGHEST_WRITTEN), 17, 15, LOWEST_WRITTEN}:
        if opset < since - 1 and not can(model, opset):
            continue  # what the row emits came later itself
        lowered = written_as(model, before, opset)
        assert lowered.opset_imports[""] == opset
        close(runnable(lowered).run(None, feed), expected)
        written += 1
    assert written
    assert model.opset_imports[""] == before  # the model itself is not changed


def test_every_row_has_a_case():
    refusals = {("RoiAlign", 16), ("DFT", 20)}
    assert set(ROWS) - refusals <= {(case[0], case[1]) for case in ROW_CASES}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]} {case[5]}")
def test_what_cannot_be_said_is_refused_with_the_reason(case):
    op_type, current, inputs, attributes, opset, reason = case
    model = one_node(op_type, current, inputs, attributes)
    with pytest.raises(ExportError, match=f"opset {opset}: operator {op_type} 'node'.*{reason}"):
        written_as(model, current, opset)
    # of its own accord such a model stays as it is
    assert written_as(model, 13, None).opset_imports[""] > opset


def test_all_that_the_standard_changed_has_a_row_or_was_only_added():
    """A change that takes something away, or gives a default another value, is one of meaning."""
    schemas: dict[str, list] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= REVIEWED:
            schemas.setdefault(schema.name, []).append(schema)
    seen = 0
    for name, versions in schemas.items():
        versions.sort(key=lambda schema: schema.since_version)
        for old, new in pairwise(versions):
            if new.since_version <= LOWEST_WRITTEN or (name, new.since_version) in ROWS:
                continue
            seen += 1
            where = f"{name} {new.since_version}"
            for key, attribute in old.attributes.items():
                assert key in new.attributes, where
                assert new.attributes[key].default_value == attribute.default_value, where
            # Attention: masks and caches, from 23 on; refused below as a new operator
            assert len(new.inputs) == len(old.inputs) or name == "Attention", where
            for a, b in zip(old.inputs, new.inputs, strict=False):
                assert a.types <= b.types, where
    assert seen > 80


def test_the_gradients_of_all_operators_are_the_same_in_other_opsets():
    """Two cases of each operator of the table, so that all that the rules emit is met."""
    refused, met = set(), Counter()
    for case in RULE_CASES:
        if not case.in_onnxruntime or met[case.op_type] == 2:
            continue
        met[case.op_type] += 1
        forward = forward_model(case, onnx.TensorProto.FLOAT)
        names = [i.name for i in forward.graph.input]
        active = [f"x{p}" for p in case.active] if case.active is not None else names
        model = graph_with_gradients(forward, active)
        running = runnable(model)
        feed = {n: case.inputs[int(n[1:])].astype(np.float32) for n in names}
        results = session(forward).run(None, feed)
        for number, y in enumerate(results):
            feed[f"v{number}"] = RNG.standard_normal(np.shape(y)).astype(np.float32)
        feed = {i.name: feed[i.name] for i in running.get_inputs()}
        expected = running.run(None, feed)
        for opset in (13, 17, 21):
            if opset > 18 and case.opset > opset:
                continue
            try:
                other = written_as(model, 18, opset)
            except OnnxcamError:
                refused.add((case.op_type, opset))
                continue
            close_enough(runnable(other).run(None, feed), expected, case.id)
    # operators that came later, GridSample in 3-D, a dilated pool
    later = "Attention RMSNormalization RotaryEmbedding AffineGrid CenterCropPad Col2Im".split()
    later += ["DeformConv", "GridSample", "AveragePool"]
    assert {name for name, opset in refused if opset == 17} <= set(later)
    assert not [name for name, opset in refused if opset == 21]
    assert len({name for name, _ in refused}) < 0.2 * len(met)


def close_enough(actual, expected, name):
    for a, b in zip(actual, expected, strict=True):
        atol = 1e-5 * max(1, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=name)


class TestExport:
    @pytest.mark.parametrize("opset", [13, 14, 15, 16, 17, 18, 19, 20, 21])
    @pytest.mark.parametrize("final", [None, "Softmax"])
    def test_the_same_results_in_every_opset(self, opset, final):
        plain = small_network(final=final)
        model = from_onnx(plain, opset=opset)
        assert model.opset_import[0].version == opset
        needed = onnx.helper.find_min_ir_version_for([oh.make_opsetid("", opset)])
        assert model.ir_version == needed
        feed = {"picture": PICTURES, "cam_target": ints(1, -1)}
        expected = runnable(ir.from_proto(from_onnx(plain))).run(None, feed)
        close(runnable(ir.from_proto(model)).run(None, feed), expected)

    @pytest.mark.parametrize(
        ("source", "written"), [(7, 13), (11, 13), (13, 13), (16, 16), (17, 17), (18, 18), (20, 20)]
    )
    def test_the_source_keeps_its_own(self, source, written):
        plain = small_network(opset=source)
        assert from_onnx(plain).opset_import[0].version == written

    def test_or_gets_the_earliest_that_has_what_its_gradient_needs(self):
        overlapping = small_network(opset=11)
        pool = next(n for n in overlapping.graph.node if n.op_type == "MaxPool")
        pool.attribute.extend([oh.make_attribute("pads", [1, 1, 1, 1])])
        next(a for a in pool.attribute if a.name == "kernel_shape").ints[:] = [3, 3]
        model = from_onnx(overlapping, "relu1")  # windows overlap: ScatterElements that adds
        assert model.opset_import[0].version == 16
        with pytest.raises(ExportError, match=r"opset 13: operator Scatter.*lowest .* is 16"):
            from_onnx(overlapping, "relu1", opset=13)

    @pytest.mark.parametrize("opset", [12, 22, 17.0, True, "17"])
    def test_opsets_that_are_not_written(self, opset):
        with pytest.raises(ExportError, match="whole number from 13 to 21"):
            from_onnx(small_network(), opset=opset)

    def test_names_that_the_framework_left_are_kept_when_the_opset_is_raised(self):
        plain = small_network()
        for node in plain.graph.node:
            entry = node.metadata_props.add()
            entry.key, entry.value = "pkg.torch.onnx.name_scopes", f"['', '{node.name}']"
        model = from_onnx(plain, opset=21)
        kept = {p.value for n in model.graph.node for p in n.metadata_props}
        assert "['', 'conv2_node']" in kept

    def test_operators_that_a_later_opset_understands_otherwise(self):
        model = one_node("GridSample", 18, [X, GRID], {"mode": "bicubic"})
        expected = runnable(model).run(None, {"x0": X})
        close(runnable(written_as(model, 18, 20)).run(None, {"x0": X}), expected)
        assert set(RAISED) <= set(ROWS)

    def test_command(self, tmp_path, capsys):
        source, out = tmp_path / "plain.onnx", tmp_path / "cam.onnx"
        onnx.save(small_network(), source)
        arguments = ["export", "onnx", str(source), "-o", str(out)]
        assert main([*arguments, "--opset", "17"]) == 0
        assert onnx.load(out).opset_import[0].version == 17
        out.unlink()
        capsys.readouterr()
        assert main([*arguments, "--opset", "12"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "13 to 21" in error
        assert not out.exists()


@needs_shared_data
def test_half_precision_keeps_its_fast_opset():
    """onnxruntime takes a half ReLU of opset 18 apart, and no longer fuses it with a Conv."""
    source = SHARED_DATA / "models" / "SqueezeNet_fp16.onnx"
    model = from_onnx(source)
    assert model.opset_import[0].version < 18
    shape = [side.dim_value or 1 for side in model.graph.input[0].type.tensor_type.shape.dim]
    half = RNG.random(shape).astype(np.float16)
    feed = {model.graph.input[0].name: half, "cam_target": ints(-1)}
    expected = runnable(ir.from_proto(from_onnx(source, opset=18))).run(None, feed)
    for a, b in zip(runnable(ir.from_proto(model)).run(None, feed), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02 * float(np.abs(b).max()))
