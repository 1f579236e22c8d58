"""torch's bidirectional LSTM over texts of different lengths, in JAX. Counterpart: `models.bilstm.torch`.

What each token gives to the gates is computed for all of them at once, before the scan; both directions go through one
scan, the second over the texts read backwards.

Shape suffixes: B batch, T tokens, I inputs, H hidden features, G = 4 * H gates in torch's order i, f, g, o,
D directions.
Source: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; names and gates are torch's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models.frameworks.jax.layers import DType, TorchParam, master_dtype

DIRECTIONS = ("", "_reverse")


class _Weights(NamedTuple):
    """Of one direction of a layer: [G, I], [G, H], [G] and [G]."""

    weight_ih: jax.Array
    weight_hh: jax.Array
    bias_ih: jax.Array
    bias_hh: jax.Array


class BiLSTM(nnx.Module):
    """`torch.nn.LSTM(inputs, hidden, layers, bidirectional=True)`, each of its layers: [B, T, I] -> [B, T, 2 * H].

    Tokens that are not allowed stand at the end of their text; what comes out at their places means nothing.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, dtype: DType) -> None:
        kept = master_dtype(dtype)
        self.dtype = dtype
        for layer in range(layers):
            width = inputs if layer == 0 else 2 * hidden
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (4 * hidden, width),
                "weight_hh": (4 * hidden, hidden),
            }
            shapes |= {"bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)}
            for direction in DIRECTIONS:
                for name, shape in shapes.items():
                    setattr(self, f"{name}_l{layer}{direction}", TorchParam(jnp.zeros(shape, kept)))

    def __call__(self, layer: int, x_BTI: jax.Array, lengths_B: jax.Array) -> jax.Array:
        """One layer, from 0."""
        forward, backward = (self._weights(layer, direction) for direction in DIRECTIONS)
        gates_DTBG = jnp.stack([_inputs(x_BTI, forward), _inputs(backwards(x_BTI, lengths_B), backward)])
        found_DTBH = _scanned(gates_DTBG, jnp.stack([forward.weight_hh, backward.weight_hh]))
        ahead_BTH, behind_BTH = (one_TBH.swapaxes(0, 1) for one_TBH in found_DTBH)
        return jnp.concatenate([ahead_BTH, backwards(behind_BTH, lengths_B)], axis=-1)

    def _weights(self, layer: int, direction: str) -> _Weights:
        return _Weights(
            *(
                getattr(self, f"{name}_l{layer}{direction}")[...].astype(self.dtype)
                for name in _Weights._fields
            )
        )


@jax.custom_vjp
def backwards(x_BTC: jax.Array, lengths_B: jax.Array) -> jax.Array:
    """Each text from its last token to its first; what lies behind it stays where it is.

    Its own inverse, and so its own gradient: that of any gather would add up places which nothing meets at.
    """
    places_T = jnp.arange(x_BTC.shape[1])
    last_BT = lengths_B[:, None] - 1 - places_T
    return jnp.take_along_axis(x_BTC, jnp.where(last_BT >= 0, last_BT, places_T)[..., None], axis=1)


def _backwards(x_BTC: jax.Array, lengths_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    return backwards(x_BTC, lengths_B), lengths_B


def _gradient(lengths_B: jax.Array, slope_BTC: jax.Array) -> tuple[jax.Array, None]:
    return backwards(slope_BTC, lengths_B), None


backwards.defvjp(_backwards, _gradient)


def _inputs(x_BTI: jax.Array, weights: _Weights) -> jax.Array:
    """What the tokens give to the gates, [T, B, G]. torch's two biases are added up, but each is learned."""
    return (x_BTI @ weights.weight_ih.T + weights.bias_ih + weights.bias_hh).swapaxes(0, 1)


def _scanned(gates_DTBG: jax.Array, hh_DGH: jax.Array) -> jax.Array:
    """The hidden features after every token, [D, T, B, H]."""
    hh_DHG = hh_DGH.swapaxes(1, 2)

    def step(
        state: tuple[jax.Array, jax.Array], gates_DBG: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        h_DBH, c_DBH = state
        i, f, g, o = jnp.split(gates_DBG + h_DBH @ hh_DHG, 4, axis=-1)
        c_DBH = jax.nn.sigmoid(f) * c_DBH + jax.nn.sigmoid(i) * jnp.tanh(g)
        h_DBH = jax.nn.sigmoid(o) * jnp.tanh(c_DBH)
        return (h_DBH, c_DBH), h_DBH

    directions, _, batch, gates = gates_DTBG.shape
    zeros = jnp.zeros((directions, batch, gates // 4), gates_DTBG.dtype)
    _, found_TDBH = jax.lax.scan(step, (zeros, zeros), gates_DTBG.swapaxes(0, 1))
    return found_TDBH.swapaxes(0, 1)
