"""Compilation ahead of time, with the seconds it takes."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import jax

# The fused reductions of YNNPACK, for the statistics of BatchNorm on a CPU: a tenth of ResNet-18's time on an AMD
# EPYC, up to a half of a small network's on others; without convolutions they cost more than they save. An
# option of the compiler and not in XLA_FLAGS, because a release of XLA that no longer knows it then says so in
# an exception instead of ending the process.
FUSED_REDUCTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


class Compiler:
    """Compiles functions for the device of the current scope. `seconds` counts tracing and compiling."""

    def __init__(self, device: jax.Device, *, convolves: bool) -> None:
        self.options = FUSED_REDUCTIONS if convolves and device.platform == "cpu" else {}
        self.seconds = 0.0

    def compile(
        self, function: Callable[..., Any], *examples: Any, donate: bool = False
    ) -> Callable[..., Any]:
        """The function for arguments of the examples' shapes; `donate`: it may overwrite its first one."""
        start = perf_counter()
        lowered = jax.jit(function, donate_argnums=(0,) if donate else ()).lower(*examples)
        try:
            return self._compiled(lowered)
        finally:
            self.seconds += perf_counter() - start

    def _compiled(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        try:
            return lowered.compile(compiler_options=dict(self.options))
        except jax.errors.JaxRuntimeError as error:
            if not self.options or "option" not in str(error):
                raise
            self.options = {}
            return lowered.compile()
