"""The whole way from raw input to the output as one module, and as a graph whose batch size is free.

Shape suffixes: N batch, H height, W width, C channels, F features, T tokens, K outputs.
"""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from models.engine import Definition
from models.exports.card import ExportCard, Target, target_of
from models.frameworks.torch.tensors import network_of
from models.preprocessing import Normalisation
from models.signature import ImageInput, TableInput, TokenInput
from models.weights import WeightsFile


class Answer(nn.Module):
    """Logits; of a regression its value in the target's units."""

    def __init__(self, network: nn.Module, target: Target | None) -> None:
        super().__init__()
        self.network = network
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        logits_NK: Tensor = self.network(x)
        return logits_NK if self.target is None else logits_NK * self.target.std + self.target.mean


class Normalise(nn.Module):
    """(x - mean) * inverse_std over the last axis."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normalisation.mean))
        self.register_buffer("inverse_std", torch.tensor(normalisation.inverse_std))

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) * self.inverse_std


# The exported input has the name of forward's argument, so each kind of input has a class.


class OfImages(nn.Module):
    def __init__(self, answer: Answer, normalise: Normalise) -> None:
        super().__init__()
        self.answer, self.normalise = answer, normalise

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [N, H, W, C] -> float32 [N, K]."""
        logits_NK: Tensor = self.answer(self.normalise(image).permute(0, 3, 1, 2))
        return logits_NK


class OfRows(nn.Module):
    def __init__(self, answer: Answer, normalise: Normalise) -> None:
        super().__init__()
        self.answer, self.normalise = answer, normalise

    def forward(self, input: Tensor) -> Tensor:
        """float32 [N, F] -> float32 [N, K]."""
        output_NK: Tensor = self.answer(self.normalise(input))
        return output_NK


class OfTokens(nn.Module):
    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [N, T] -> float32 [N, K]."""
        logits_NK: Tensor = self.answer(input_ids)
        return logits_NK


def program(model: WeightsFile, card: ExportCard) -> ExportedProgram:
    """The graph in evaluation mode. Batch size and number of tokens are free from 1 on."""
    with torch.no_grad():
        found = torch.export.export(
            module(model).eval().requires_grad_(False),
            (_example(model),),
            dynamic_shapes={card.input.name: _free_axes(card)},
        )
    for part in found.graph_module.modules():  # a loop's body is a graph of its own
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it names this machine's folders
    return found


def module(model: WeightsFile) -> nn.Module:
    """The model from its raw input on."""
    about = model.card
    normalisation = about.preprocessing.normalisation
    definition = Definition(about.model, about.signature, normalisation)
    network = network_of(definition, model.weights, torch.float32, torch.device("cpu"))
    answer = Answer(network, target_of(about))
    if normalisation is None:
        return OfTokens(answer)
    kind = OfImages if isinstance(about.signature.input, ImageInput) else OfRows
    return kind(answer, Normalise(normalisation))


def _example(model: WeightsFile) -> Tensor:
    """Two samples, for the exporter takes an axis of length 1 for one that always is."""
    input = model.card.signature.input
    match input:
        case ImageInput():
            return torch.zeros((2, *input.shape), dtype=torch.uint8)
        case TableInput():
            return torch.zeros((2, *input.shape))
        case TokenInput():
            # Any id but the padding: no text is empty.
            return torch.full((2, min(16, input.length)), int(input.padding == 0), dtype=torch.int64)
        case _:
            raise AssertionError(f"no network takes {input}")


def _free_axes(card: ExportCard) -> dict[int, Dim]:
    input = card.model.signature.input
    longest = {"batch": None, "tokens": input.length if isinstance(input, TokenInput) else None}
    return {
        axis: Dim(name, min=1, max=longest[name])
        for axis, name in enumerate(card.input.shape)
        if isinstance(name, str)
    }
