"""What lies between layer and score and has no derivative: named, with a way out that works."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.helper as oh
import pytest

from onnxcam.errors import UnsupportedOpError
from onnxcam_export.gradient import Ops, gradient
from onnxcam_export.loading import prepare


def derive(nodes, start, end, constants=(), extra=()):
    """The gradient of the sum of `end` by `start` in a graph over x [1, 2, 4, 4]."""
    graph = oh.make_graph(
        nodes,
        "net",
        [oh.make_tensor_value_info("x", 1, [1, 2, 4, 4]), *extra],
        [oh.make_tensor_value_info(end, 1, None)],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants],
    )
    model = prepare(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9))
    values = {v.name: v for n in model.graph for v in n.outputs}
    values |= {v.name: v for v in model.graph.inputs}
    op = Ops(set(values), 18)
    score = values[end]
    seed = op.const(np.ones([int(s) for s in score.shape]), score.dtype)
    return gradient(op, list(model.graph), score, seed, values[start])


make = oh.make_node


def test_refusal_names_operator_opset_and_the_nearest_layer_that_works():
    nodes = [
        make("Relu", ["x"], ["first"]),
        make("Floor", ["first"], ["floored"], "rounding"),
        make("Sin", ["floored"], ["second"]),
        make("Ceil", ["second"], ["ceiled"], "rounding again"),
        make("Tanh", ["ceiled"], ["third"]),
        make("GlobalAveragePool", ["third"], ["score"]),
    ]
    with pytest.raises(UnsupportedOpError) as caught:
        derive(nodes, "first", "score")
    message = str(caught.value)
    assert "operator Ceil 'rounding again' (opset 18)" in message
    advised = re.search(r"such as '(.*)'", message).group(1)
    assert advised == "ceiled"
    derive(nodes, advised, "score")


def test_advice_steps_over_every_refused_operator_behind():
    nodes = [
        make("Relu", ["x"], ["first"]),
        make("LSTM", ["rows", "w", "r"], ["sequence"], "memory", hidden_size=4, clip=1.0),
        make("Reshape", ["sequence", "shape"], ["picture"]),
        make("Sin", ["picture"], ["waves"]),
        make("GlobalAveragePool", ["waves"], ["score"]),
    ]
    nodes.insert(1, make("Reshape", ["first", "rows_shape"], ["rows"]))
    constants = [
        ("rows_shape", np.array([8, 1, 4])),
        ("w", np.ones((1, 16, 4), np.float32)),
        ("r", np.ones((1, 16, 4), np.float32)),
        ("shape", np.array([1, 2, 4, 4])),
    ]
    with pytest.raises(UnsupportedOpError, match=r"LSTM 'memory'.*clip.*such as"):
        derive(nodes, "first", "score", constants)


def test_an_if_that_reads_the_layer_from_outside_is_on_the_path():
    def branch(op_type):
        return oh.make_graph(
            [make(op_type, ["first"], ["inner"])],
            op_type,
            [],
            [oh.make_tensor_value_info("inner", 1, [1, 2, 4, 4])],
        )

    nodes = [
        make("Relu", ["x"], ["first"]),
        make(
            "If",
            ["flag"],
            ["chosen"],
            "choice",
            then_branch=branch("Sin"),
            else_branch=branch("Cos"),
        ),
        make("Add", ["first", "chosen"], ["sum"]),
        make("GlobalAveragePool", ["sum"], ["score"]),
    ]
    flag = oh.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    with pytest.raises(UnsupportedOpError, match=r"If 'choice'.*decided at run time.*'chosen'"):
        derive(nodes, "first", "score", extra=[flag])


def test_an_operator_of_a_vendor_is_not_the_standard_one_of_its_name():
    nodes = [
        make("Relu", ["x"], ["first"]),
        make("Tanh", ["first"], ["odd"], "own", domain="vendor"),
        make("GlobalAveragePool", ["odd"], ["score"]),
    ]
    graph = oh.make_graph(
        nodes,
        "net",
        [oh.make_tensor_value_info("x", 1, [1, 2, 4, 4])],
        [oh.make_tensor_value_info("score", 1, [1, 2, 1, 1])],
        value_info=[oh.make_tensor_value_info("odd", 1, [1, 2, 4, 4])],
    )
    opsets = [oh.make_opsetid("", 18), oh.make_opsetid("vendor", 1)]
    model = prepare(oh.make_model(graph, opset_imports=opsets, ir_version=9))
    values = {v.name: v for n in model.graph for v in n.outputs}
    op = Ops(set(values), 18)
    seed = op.const(np.ones((1, 2, 1, 1)), values["score"].dtype)
    with pytest.raises(UnsupportedOpError, match=r"operator vendor\.Tanh 'own' \(opset 1\)"):
        gradient(op, list(model.graph), values["score"], seed, values["first"])


def test_two_uses_of_a_layer_add_up_and_other_paths_do_not_count():
    from onnx.reference import ReferenceEvaluator  # the emitted graph, run

    nodes = [
        make("Sin", ["x"], ["first"]),
        make("Mul", ["first", "first"], ["square"]),
        make("Add", ["square", "x"], ["sum"]),
        make("Add", ["sum", "first"], ["score"]),
    ]
    result = derive(nodes, "first", "score")
    graph = _runnable(result, nodes)
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    (found,) = ReferenceEvaluator(graph).run(None, {"x": x})
    np.testing.assert_allclose(found, 2 * np.sin(x) + 1, rtol=1e-5)


def _runnable(result, nodes):
    import onnx_ir as ir

    emitted, constants, stack, seen = [], {}, [result], set()
    while stack:
        value = stack.pop()
        node = value.producer()
        if value.const_value is not None:
            constants[value.name] = value.const_value.numpy()
        elif node is not None and node not in seen and node.name.startswith("cam/"):
            seen.add(node)
            emitted.append(node)
            stack += [v for v in node.inputs if v is not None]
    order = sorted(emitted, key=lambda n: int(n.name.rsplit("_", 1)[1]))
    done, protos = {"x", *constants, *(o for n in nodes for o in n.output)}, []
    while order:
        ready = next(n for n in order if all(v is None or v.name in done for v in n.inputs))
        order.remove(ready)
        done.update(v.name for v in ready.outputs)
        protos.append(ir.to_proto(ready))
    graph = oh.make_graph(
        [*nodes, *protos],
        "g",
        [oh.make_tensor_value_info("x", 1, [1, 2, 4, 4])],
        [oh.make_tensor_value_info(result.name, 1, None)],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
