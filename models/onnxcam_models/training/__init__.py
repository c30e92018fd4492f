"""How the shipped networks were made: `python -m onnxcam_models.training.<name>`.

Needs PyTorch and scikit-learn (`pip install 'onnxcam[torch]' scikit-learn`). Fixed seeds,
minutes on two cores. Figures and licences are in MODELS.md.
"""
