"""A bare PyTorch loop: preloaded tensors, permuted index batches, channels_last, fused optimizer, denormals flushed."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from benchmarks.cases import CLASSES, Case
from models.catalog import implementation
from models.preprocessing import Normalisation
from models.signature import TokenInput
from models.training import SGD


def loop(
    case: Case, x: np.ndarray, y: np.ndarray, normalisation: Normalisation | None
) -> Callable[[int], float]:
    """A function that trains so many steps more and returns their mean loss.

    x: uint8 [N, H, W, C], or int32 token ids [N, T] with no normalisation; y: int [N].
    """
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = network(case).train().to(device).to(memory_format=torch.channels_last)
    optimizer = optimizer_of(case, model)
    rows_of, targets = torch.tensor(x).to(device), torch.tensor(y).long().to(device)
    enter = entrance(normalisation, device)

    def train(steps: int) -> float:
        total = torch.zeros((), device=device)
        done = 0
        while done < steps:
            order = torch.randperm(len(x), device=device)
            for rows in torch.split(order, case.batch)[: min(len(x) // case.batch, steps - done)]:
                loss = F.cross_entropy(model(enter(rows_of.index_select(0, rows))), targets[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.detach()
                done += 1
        return total.item() / steps

    return train


def entrance(normalisation: Normalisation | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Pixels normalised, NCHW in channels_last; token ids as they are."""
    if normalisation is None:
        return lambda ids: ids
    grey = len(normalisation.mean) == 1  # with one number for all, no broadcast slows the loop down
    mean, inverse_std = (
        array.item() if grey else torch.tensor(array).to(device)
        for array in (normalisation.mean, normalisation.inverse_std)
    )
    return lambda x: x.float().sub_(mean).mul_(inverse_std).permute(0, 3, 1, 2)


def optimizer_of(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    chosen = case.optimizer
    if isinstance(chosen, SGD):
        return torch.optim.SGD(
            model.parameters(), lr=chosen.learning_rate, momentum=chosen.momentum, fused=True
        )
    return torch.optim.AdamW(model.parameters(), lr=chosen.learning_rate, fused=True)


def network(case: Case) -> nn.Module:
    """Written here by hand, or torchvision's and transformers' own, which Tandem's torch networks are."""
    if case.architecture in NETWORKS:
        return NETWORKS[case.architecture](case)
    found: nn.Module = implementation(case.spec, "torch").build(case.spec, case.signature)
    return found


def mlp(_: Case) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def cnn(_: Case) -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *stage(1, 32),
        *stage(32, 64),
        *stage(64, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


class BiLSTM(nn.Module):
    """torch's LSTM over whole batches: every text here has the full length."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        options, reads = case.spec.model_dump(), case.input
        assert isinstance(reads, TokenInput)
        self.embedding = nn.Embedding(reads.vocabulary, options["embedding"], padding_idx=reads.padding)
        self.embedding_dropout = nn.Dropout(options["embedding_dropout"])
        self.dropout = nn.Dropout(options["dropout"])
        self.lstm = nn.LSTM(
            options["embedding"], options["hidden"], options["layers"], batch_first=True, bidirectional=True
        )
        self.fc = nn.Linear(4 * options["hidden"], CLASSES)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTC, _ = self.lstm(self.embedding_dropout(self.embedding(ids_BT)))
        pooled_BC = torch.cat((x_BTC.amax(1), x_BTC.mean(1)), dim=1)
        logits_BK: Tensor = self.fc(self.dropout(pooled_BC))
        return logits_BK


class Encoder(nn.Module):
    """torch's encoder layers, with the mask that texts need."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        options, reads = case.spec.model_dump(), case.input
        assert isinstance(reads, TokenInput)
        hidden, self.padding = options["hidden"], reads.padding
        self.embedding = nn.Embedding(reads.vocabulary, hidden, padding_idx=reads.padding)
        self.positions = nn.Parameter(torch.randn(reads.length, hidden) * 0.02)
        self.dropout = nn.Dropout(options["dropout"])
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden,
                options["heads"],
                options["mlp"],
                options["dropout"],
                "gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(options["layers"])
        )
        self.norm = nn.LayerNorm(hidden)
        self.fc = nn.Linear(hidden, CLASSES)

    def forward(self, ids_BT: Tensor) -> Tensor:
        padded_BT = ids_BT == self.padding
        x_BTC = self.dropout(self.embedding(ids_BT) + self.positions[: ids_BT.shape[1]])
        for layer in self.layers:
            x_BTC = layer(x_BTC, src_key_padding_mask=padded_BT)
        kept_BT1 = (~padded_BT)[..., None]
        pooled_BC = (self.norm(x_BTC) * kept_BT1).sum(1) / kept_BT1.sum(1)
        logits_BK: Tensor = self.fc(self.dropout(pooled_BC))
        return logits_BK


class DistilBERT(nn.Module):
    """transformers' own network with its own attention."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        options, reads = case.spec.model_dump(), case.input
        assert isinstance(reads, TokenInput)
        self.padding = reads.padding
        self.network = DistilBertForSequenceClassification(
            DistilBertConfig(  # type: ignore[call-arg]  # it passes the last on
                vocab_size=reads.vocabulary,
                max_position_embeddings=options["positions"],
                n_layers=options["layers"],
                n_heads=options["heads"],
                dim=options["hidden"],
                hidden_dim=options["mlp"],
                num_labels=CLASSES,
            )
        )

    def forward(self, ids_BT: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(ids_BT, attention_mask=ids_BT != self.padding).logits
        return logits_BK


NETWORKS: Mapping[str, Callable[[Case], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "bilstm": BiLSTM,
    "transformer": Encoder,
    "distilbert": DistilBERT,
}
