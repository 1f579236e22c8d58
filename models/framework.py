"""The two frameworks, by name."""

from typing import Literal, get_args

Framework = Literal["torch", "jax"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)
