"""A dataset, a model that needs no framework, and a run that scores the one with the other."""

import numpy as np

from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.preprocessing import TablePreprocessing
from models.scoring.parts import Parts
from models.scoring.run import Run
from models.scoring.spec import ScoringSpec
from models.signature import Signature, TableInput
from models.weights import ModelCard

COLUMNS = ("a", "b", "c")
SIZES = {"train": 1000, "validation": 300, "test": 700}


class Sums:
    """`models.engine.Predictor`: the logit of class k is the row's sum times k + 1."""

    device = "cpu (sums)"

    def __init__(self, outputs):
        self.outputs, self.batches = outputs, []

    def logits(self, x):
        self.batches.append(len(x))
        return (x.sum(axis=1, keepdims=True) * np.arange(1, self.outputs + 1)).astype(np.float32)


def dataset(classes=("x", "y", "z"), sizes=SIZES):
    generator = np.random.default_rng(0)

    def split(rows):
        x = generator.normal(size=(rows, len(COLUMNS))).astype(np.float32)
        y = generator.integers(0, len(classes), rows) if classes else x[:, 0] * 2
        return Split(x, y if classes else y.astype(np.float32))

    task = "tabular-classification" if classes else "tabular-regression"
    held = DatasetDescription(
        task=task,
        input=TableInput(features=len(COLUMNS), columns=COLUMNS),
        classes=classes,
        splits=Splits(**sizes),
    )
    return Dataset(held, None, **{name: split(rows) for name, rows in sizes.items()})


def card(classes=("x", "y", "z"), **about):
    none = classes is None
    known = {
        "model": {"architecture": "linear"},
        "signature": Signature(
            task="tabular-regression" if none else "tabular-classification",
            input=TableInput(features=len(COLUMNS), columns=COLUMNS),
            outputs=1 if none else len(classes),
        ),
        "preprocessing": TablePreprocessing(
            columns=COLUMNS,
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            target_mean=3.0 if none else None,
            target_std=2.0 if none else None,
        ),
        "classes": classes,
    }
    return ModelCard(**known | about)


def spec(**asked):
    known = {"model": "m@1", "dataset": "d", "engine": "torch", "precision": "float32", "rows": 2000}
    return ScoringSpec(**{**known, "split": "all", **asked})


def run(
    folder, asked, *, earlier=(), held=None, about=None, predictor=None, part_every_s=1e9, clock=lambda: 0.0
):
    about = about or card()
    held = held or dataset()
    predictor = predictor or Sums(about.signature.outputs)
    parts = Parts(folder, earlier)
    return Run(predictor, about, held, asked, parts, part_every_s=part_every_s, clock=clock)
