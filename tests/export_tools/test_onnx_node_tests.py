"""Every node test of the ONNX project: derived and compared, or refused for a reason given here.

`python benchmarks/node_tests.py` prints the same as a table, expanded functions included.
"""

from __future__ import annotations

import re

from helpers_node_tests import examine, node_cases
from onnxcam_export.gradient.rules import REFUSED, RULES

# Refusals of operators that have a row: what the message says.
BY_RULE = {
    "BatchNormalization": "training mode",
    "Dropout": "drops at random",
    "Einsum": "repeated in one operand",
    "MaxUnpool": "output_shape",
    "Resize": "keep_aspect_ratio_policy",
    "ScatterElements": "reduction '(mul|max|min)'",
    "ScatterND": "reduction '(mul|max|min)'",
    "LSTM": "peepholes|layout 1",  # onnxruntime's CPU provider has no kernel for layout 1 either
    "GRU": "layout 1",
    "RNN": "layout 1",
    "RoiAlign": "mode 'max'",
    "DequantizeLinear": "blocked quantisation",
    # onnx fails where an input is left out before one that is given
    "Attention": "cannot write it as simpler operators",
}

# Operators without a row: not met in vision models.
NO_ROW = set(
    """CausalConvWithState LinearAttention CumProd TensorScatter Range OptionalGetElement
    ai.onnx.preview.FlexAttention""".split()
)

# Whole models that are refused before any operator is looked at: no default opset, or training.
NOT_LOADED = re.compile(r"onnx cannot bring this model from opset 1 to 18")

# Cases whose derivative does not exist where they are evaluated, or that the two define apart.
NOT_COMPARABLE = {
    "an input on a kink or a tie": """elu_example leakyrelu_example selu_example
    thresholdedrelu_example reduce_min_default_axes_keepdims_example maxpool_3d_dilations
    maxpool_3d_dilations_use_ref_impl""",
    "a row of attention without any key, whose softmax is not a number": """
    attention_causal_boolmask_nan_robustness attention_23_boolmask_fullymasked_row_nan_robustness
    attention_23_fullymasked_qk_matmul_output_mode3_zero attention_local_window_gqa_rank4_mask
    attention_24_fullymasked_qk_matmul_output_mode3_zero
    attention_24_qk_matmul_output_mode3_softmax_precision""",
    "align_corners with scales: onnxruntime counts the whole pixels of the output, the reference "
    "does not": """resize_downsample_scales_linear_align_corners
    resize_downsample_scales_cubic_align_corners""",
    "regions whose samples lie on whole pixels, where the derivative by them jumps": """
    roialign_aligned_false""",
    "saturated: a derivative of 1e-6, of which differences see the rounding": "rnn_seq_length",
    "quantisation is straight-through": """dynamicquantizelinear
    dynamicquantizelinear_max_adjusted dynamicquantizelinear_min_adjusted""",
}


def test_node_tests_agree_or_are_refused_for_a_reason():
    excused = {f"test_{name}" for names in NOT_COMPARABLE.values() for name in names.split()}
    counts = {}
    wrong = []
    for name, model, arrays in node_cases():
        if name.endswith("_expanded") or "_expanded_ver" in name:
            continue
        outcome = examine(name, model, arrays)
        counts[outcome.kind] = counts.get(outcome.kind, 0) + 1
        if (outcome.kind == "disagrees" and name not in excused) or (
            outcome.kind == "refused" and not explained(outcome.reason)
        ):
            wrong.append(outcome)
    assert not wrong, "\n".join(f"{o.name}: {o.kind}: {o.reason}" for o in wrong)
    assert counts["agrees"] > 600, counts


def explained(reason: str) -> bool:
    named = re.match(r"operator (\S+) ", reason)
    if named is None:
        return bool(NOT_LOADED.match(reason))
    operator = named.group(1)
    if ("", operator) in RULES:
        return operator in BY_RULE and re.search(BY_RULE[operator], reason) is not None
    return ("", operator) in REFUSED or operator in NO_ROW
