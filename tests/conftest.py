"""Keras runs on torch in these tests; the TensorFlow route runs in a process of its own."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"
