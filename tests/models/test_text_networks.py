"""The networks for texts against torch's and transformers' own, and against padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from models import engine
from models.catalog import architectures, declarations, implementation
from models.engine import Definition
from models.framework import FRAMEWORKS
from models.frameworks.jax.network import Network
from models.initial import initial_weights
from models.signature import Signature, TokenInput

SPECS = architectures()
SMALL = {
    "bilstm": SPECS["bilstm"](embedding=6, hidden=5, length=32),
    "transformer": SPECS["transformer"](layers=2, heads=2, hidden=8, mlp=12, length=32),
    "distilbert": SPECS["distilbert"](layers=2, heads=2, hidden=8, mlp=12, positions=40, length=32),
}


def signature(vocabulary=30, length=32, padding=0, outputs=3):
    taken = TokenInput(vocabulary=vocabulary, length=length, padding=padding)
    return Signature(task="text-classification", input=taken, outputs=outputs)


def large(weights, factor=8):
    """Initial weights, larger, so that logits are of the order of 1 and differ."""
    return {
        name: array if array.ndim < 2 or "embedding" in name else array * factor
        for name, array in weights.items()
    }


def ragged(rows, length, vocabulary=30, seed=0):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, length + 1, rows)
    ids = generator.integers(1, vocabulary, (rows, length), dtype=np.int32)
    ids[np.arange(length) >= lengths[:, None]] = 0
    return ids, lengths


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", SMALL)
def test_padding_and_other_texts_change_no_logit(name, framework):
    spec, taken = SMALL[name], signature()
    weights = initial_weights(spec, taken, 0)
    weights = {
        key: value * 8 if "weight" in key and value.ndim > 1 else value for key, value in weights.items()
    }
    logits = engine.load(framework).predictor(Definition(spec, taken, None), weights).logits
    ids, lengths = ragged(6, 24)
    together = logits(ids)
    assert together.std(axis=0).min() > 1e-3
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits(ids[row : row + 1, :length])[0], together[row], atol=2e-5)
    wider = np.pad(ids, ((0, 0), (0, 8)))
    np.testing.assert_allclose(logits(wider), together, atol=2e-5)


@pytest.mark.parametrize("name", SMALL)
def test_names_and_order_are_those_of_the_torch_module(name):
    taken = signature()
    with torch.device("meta"):
        network = implementation(SMALL[name], "torch").build(SMALL[name], taken)
    found = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    declared = declarations(SMALL[name], taken)
    assert list(found.items()) == [(key, tensor.shape) for key, tensor in declared.items()]


def jax_network(spec, taken, weights):
    """The JAX twin in float32, as a function of ids and parameters."""
    network = Network(spec, taken, "float32")
    tensors = network.to_device(weights, jax.devices("cpu")[0])
    return network, tensors


def squares(network, ids):
    """The sum of the squared logits, as a function of the tensors."""
    return lambda tensors: jnp.sum(network.apply(tensors, ids, training=False)[0] ** 2)


def part_of(weights, prefix):
    return {
        key.removeprefix(prefix): torch.tensor(value)
        for key, value in weights.items()
        if key.startswith(prefix)
    }


def test_the_lstm_is_torchs_with_packed_sequences():
    spec, taken = SMALL["bilstm"], signature()
    weights = initial_weights(spec, taken, 1)
    ids, lengths = ragged(5, 16)
    lstm = nn.LSTM(6, 5, 2, bidirectional=True, batch_first=True)
    lstm.load_state_dict(part_of(weights, "lstm."))
    x = torch.tensor(weights["embedding.weight"])[torch.tensor(ids).long()].requires_grad_()
    packed = nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    y, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    allowed = torch.tensor(ids[:, : y.shape[1]] != 0)[..., None]
    pooled = torch.cat((y.masked_fill(~allowed, -torch.inf).amax(1), y.sum(1) / allowed.sum(1)), 1)
    logits = pooled @ torch.tensor(weights["fc.weight"]).T + torch.tensor(weights["fc.bias"])
    logits.square().sum().backward()
    expected = {f"lstm.{key}": value.grad.numpy() for key, value in lstm.named_parameters()}

    for framework in FRAMEWORKS:
        predictor = engine.load(framework).predictor(Definition(spec, taken, None), weights)
        np.testing.assert_allclose(predictor.logits(ids), logits.detach().numpy(), atol=1e-5)
    network, tensors = jax_network(spec, taken, weights)
    gradients = jax.grad(lambda tensors: jnp.sum(network.apply(tensors, ids, training=False)[0] ** 2))(
        tensors
    )
    found = network.to_canonical(gradients)
    own = implementation(spec, "torch").build(spec, taken)
    own.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
    own.eval()(torch.tensor(ids)).square().sum().backward()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=2e-5)
        np.testing.assert_allclose(dict(own.named_parameters())[key].grad.numpy(), value, atol=2e-5)


def test_the_row_of_the_padding_learns_nothing():
    for name, spec in SMALL.items():
        taken = signature()
        weights = large(initial_weights(spec, taken, 1))
        ids, _ = ragged(5, 16)
        network, tensors = jax_network(spec, taken, weights)
        gradients = network.to_canonical(jax.grad(squares(network, ids))(tensors))
        table = next(key for key in gradients if key.endswith(("word_embeddings.weight", "embedding.weight")))
        assert not gradients[table][0].any(), name
        assert gradients[table][1:].any(), name


def test_a_transformer_layer_is_torchs():
    spec, taken = SMALL["transformer"], signature()
    weights = large(initial_weights(spec, taken, 2), 3)
    ids, _ = ragged(4, 12)
    layers = nn.ModuleList(
        nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(2)
    )
    layers.load_state_dict(part_of(weights, "layers."))
    tensors = {key: torch.tensor(value) for key, value in weights.items()}
    padding = torch.tensor(ids == 0)
    x = tensors["embedding.weight"][torch.tensor(ids).long()] + tensors["positions.weight"][:12]
    for layer in layers.train():
        x = layer(x, src_key_padding_mask=padding)
    x = nn.functional.layer_norm(x, (8,), tensors["norm.weight"], tensors["norm.bias"])
    kept = (~padding)[..., None]
    expected = ((x * kept).sum(1) / kept.sum(1)) @ tensors["fc.weight"].T + tensors["fc.bias"]
    for framework in FRAMEWORKS:
        found = engine.load(framework).predictor(Definition(spec, taken, None), weights).logits(ids)
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)


def test_distilbert_is_transformers_at_its_published_size():
    spec = SPECS["distilbert"](length=128)
    taken = signature(vocabulary=1000, length=128, outputs=4)
    weights = initial_weights(spec, taken, 0)
    # Attention and the classifier with some contrast, so that equal logits mean something.
    weights = {
        key: value * (3 if "attention" in key or "classifier" in key else 1) for key, value in weights.items()
    }
    ids, _ = ragged(2, 128, 1000)
    theirs = DistilBertForSequenceClassification(DistilBertConfig(vocab_size=1000, num_labels=4)).eval()
    assert list(theirs.state_dict()) == list(weights)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
    with torch.inference_mode():
        tokens = torch.tensor(ids).long()
        expected = theirs(tokens, attention_mask=(tokens != 0).long()).logits.numpy()
    assert np.abs(expected[0] - expected[1]).max() > 1e-2
    for framework in FRAMEWORKS:
        found = engine.load(framework).predictor(Definition(spec, taken, None), weights).logits(ids)
        assert np.abs(found - expected).max() < 1e-4, framework


def test_dropout_stands_at_the_same_places_in_both():
    for spec in SMALL.values():
        taken = signature()
        in_torch = implementation(spec, "torch").build(spec, taken)
        named = {name for name, module in in_torch.named_modules() if isinstance(module, nn.Dropout)}
        in_jax = {".".join(map(str, path[:-1])) for path in Network(spec, taken, "float32").sites}
        assert named == in_jax
