"""The training scripts: figures against scikit-learn's, repeatable, and a file that loads."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.metrics import average_precision_score

from onnxcam_models import scenes
from onnxcam_models.training import digits_in_clutter, mnist_style
from onnxcam_models.training.networks import DigitsInClutter, LogSumExp, fold_batch_norms


def test_mean_average_precision_is_scikit_learns():
    rng = np.random.default_rng(0)
    targets = (rng.random((50, 10)) < 0.3).astype(np.float32)
    scores = rng.normal(size=(50, 10)) + targets
    expected = average_precision_score(targets, scores, average="macro")
    assert digits_in_clutter.mean_average_precision(scores, targets) == pytest.approx(expected)


def test_log_sum_exp_lies_between_average_and_maximum():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64) * 50  # exp(1.5 * 150) needs the maximum
    pooled = LogSumExp(1.5)(x)
    expected = (torch.logsumexp(1.5 * x.flatten(2), 2) - np.log(20)) / 1.5
    torch.testing.assert_close(pooled, expected)
    assert (pooled < x.amax((2, 3))).all()
    assert (pooled > x.mean((2, 3))).all()


def test_a_map_cell_sees_around_the_middle_of_its_own_pixels():
    """The features of cell (5, 6) see 36 pixels, centred on the 8x8 pixels of that cell."""
    network = DigitsInClutter().eval().double()
    for block in network.features:
        torch.nn.init.ones_(block.conv.weight)  # positive throughout: ReLU hides nothing
    picture = torch.ones(1, 1, 96, 96, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.features(picture)[0, 0, 5, 6], picture)
    rows, columns = (torch.nonzero(gradient[0, 0].sum(axis)).flatten() for axis in (1, 0))
    assert len(rows) == len(columns) == 36
    assert (rows[0] + rows[-1]).item() / 2 == 5 * 8 + 3.5
    assert (columns[0] + columns[-1]).item() / 2 == 6 * 8 + 3.5


def test_folding_batch_norms_changes_nothing():
    network = DigitsInClutter()
    for block in network.features:
        torch.nn.init.normal_(block.norm.running_mean)
        torch.nn.init.uniform_(block.norm.running_var, 0.5, 2)
        torch.nn.init.normal_(block.norm.bias)
    picture = torch.rand(2, 1, 96, 96)
    before = network.eval()(picture)
    after = fold_batch_norms(network)(picture)
    assert not any(isinstance(x, torch.nn.BatchNorm2d) for x in network.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_training_repeats_from_its_seed():
    first, again, other = (digits_in_clutter.train(128, seed) for seed in (3, 3, 4))
    weight = [x.class_map.weight for x in (first, again, other)]
    torch.testing.assert_close(weight[0], weight[1])
    assert not torch.allclose(weight[0], weight[2])


def test_the_clutter_script_writes_a_file_that_runs(tmp_path, capsys):
    file = tmp_path / "folder" / "net.onnx"
    arguments = ["-o", str(file), "--scenes", "128", "--held-out-scenes", "64"]
    assert digits_in_clutter.main(arguments) == 0
    printed = capsys.readouterr()
    assert "mean average precision" in printed.out
    assert "pointing" in printed.out
    assert "\r" not in printed.err, "progress is for terminals"
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"picture": np.zeros((3, 1, 96, 96), np.float32)})
    assert logits.shape == (3, 10)
    assert [x.name for x in file.parent.iterdir()] == ["net.onnx"]


def test_the_mnist_script_learns_and_writes(tmp_path, capsys):
    file = tmp_path / "net.onnx"
    assert mnist_style.main(["-o", str(file), "--epochs", "4"]) == 0
    printed = capsys.readouterr().out
    (line,) = (x for x in printed.splitlines() if "held-out" in x)
    assert float(line.split()[1]) > 0.6
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    picture = scenes.mnist_style(scenes.unseen_handwriting()[0][0])[None, None]
    (probabilities,) = session.run(None, {"picture": picture.astype(np.float32) / 255})
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
