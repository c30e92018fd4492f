"""Operators without a derivative, and why: refused, so that no map is blank or wrong."""

from __future__ import annotations

_FLAT = "its derivative is zero almost everywhere"
_CHOICE = "what it chooses changes in jumps, which have no derivative"
_REGIONS = "onnxcam has no derivative for the maxima of computed regions"
_LOOP = (
    "its number of rounds or its branch is decided at run time (or it would be more than 2,000 "
    "nodes unrolled); export the model with the loop unrolled or the condition fixed"
)
_RANDOM = "its output is random"
_SIGNAL = "onnxcam has no derivative for signal transforms"
_MISSING = "onnxcam has no derivative for it"
_QUANTISED = (
    "onnxcam has no derivative for this quantised operator; export from the float model or its "
    "QDQ form (QuantizeLinear and DequantizeLinear around float operators)"
)

_REASONS = {
    _FLAT: "Round Floor Ceil Sign Hardmax",
    _CHOICE: "NonMaxSuppression Unique Compress NonZero ArgMax ArgMin",
    _REGIONS: "MaxRoiPool",
    _LOOP: "If Loop Scan",
    _RANDOM: "Bernoulli Multinomial RandomNormalLike RandomUniformLike RandomNormal RandomUniform",
    _SIGNAL: "DFT STFT MelWeightMatrix",
    _MISSING: "Det BitShift StringNormalizer OneHot Scatter",
}

# (domain, operator) -> the reason, as the end of a sentence
TABLE = {("", name): reason for reason, names in _REASONS.items() for name in names.split()}
