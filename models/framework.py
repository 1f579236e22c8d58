"""The two frameworks, and what computes predictions, by name."""

from typing import Literal, get_args

Framework = Literal["torch", "jax"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)

EngineName = Literal["torch", "jax", "openvino"]
"""Each framework, and OpenVINO for graphs exported from torch."""
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
