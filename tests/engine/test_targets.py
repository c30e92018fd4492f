from __future__ import annotations

import numpy as np
import pytest

from onnxcam.errors import TargetError
from onnxcam.targets import check_targets, resolve_target

LABELS = ("cat", "dog", "cow")


@pytest.mark.parametrize(
    ("target", "index"),
    [(None, -1), (-1, -1), (0, 0), (2, 2), (np.int64(1), 1), ("dog", 1), ("2", 2), ("-1", -1)],
)
def test_resolve(target, index):
    assert resolve_target(target, LABELS, 3) == index


@pytest.mark.parametrize(
    ("target", "labels", "message"),
    [
        (3, LABELS, "target 3: expected 0 to 2, or -1"),
        (-2, LABELS, "target -2"),
        ("3", None, "target 3"),
        ("-2", LABELS, "target -2"),
        ("dgo", LABELS, "nearest are 'dog'"),
        ("dog", None, "no labels"),
        (1.0, LABELS, "got 1.0"),
        (True, LABELS, "got True"),
    ],
)
def test_resolve_fails(target, labels, message):
    with pytest.raises(TargetError, match=message):
        resolve_target(target, labels, 3)


@pytest.mark.parametrize(
    ("targets", "per_image", "expected"),
    [
        (None, None, [-1, -1]),
        (1, None, [1, 1]),
        ([0, -1], None, [0, -1]),
        (np.array([2, 0], np.int32), None, [2, 0]),
        (None, 0, [[-1], [-1]]),
        (None, 3, [[-1] * 3] * 2),
        ([[0, 1], [2, -1]], 0, [[0, 1], [2, -1]]),
        (2, 2, [[2, 2], [2, 2]]),
    ],
)
def test_check(targets, per_image, expected):
    found = check_targets(targets, 2, per_image, 3)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("targets", "per_image", "message"),
    [
        ([0], None, r"expected \[2\], got \[1\]"),
        ([0, 1, 2], None, r"got \[3\]"),
        ([[0], [1]], None, r"got \[2, 1\]"),
        ([0, 1], 0, r"expected \[2, K\], got \[2\]"),
        ([[0, 1], [1, 2]], 3, r"expected \[2, 3\], got \[2, 2\]"),
        ([0, 3], None, "target 3: expected 0 to 2"),
        ([-2, 0], None, "target -2"),
        ([0.0, 1.0], None, "integers, got float64"),
        ([True, False], None, "integers, got bool"),
        ([], None, "integers|expected"),
    ],
)
def test_check_fails(targets, per_image, message):
    with pytest.raises(TargetError, match=message):
        check_targets(targets, 2, per_image, 3)


def test_without_a_known_number_of_classes():
    assert check_targets([5, 700], 2, None, None).tolist() == [5, 700]
    with pytest.raises(TargetError, match="target -3"):
        check_targets([5, -3], 2, None, None)
