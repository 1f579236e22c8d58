"""Run in a project with a new architecture: `python trained_in_both.py NAME`.

Ends with status 0 if a job can ask for it, and it trains on real data in both frameworks to the same weights and serves
them from both.
"""

import sys
from pathlib import Path

import numpy as np

from app.deps import Paging
from app.routes.architectures import list_architectures
from models import engine
from models.catalog import declarations
from models.data.builtin import BUILTIN
from models.engine import Definition
from models.fit import fit
from models.framework import FRAMEWORKS
from models.initial import initial_weights
from models.job import JobSpec
from models.reports import Fitted
from models.state import TrainingState
from models.training import resolve


class Nobody:
    """Watches a run and says nothing."""

    def report(self, event: object) -> None: ...

    def directive(self) -> str:
        return "continue"

    def save(self, state: TrainingState) -> None: ...


def main(name: str) -> None:
    (known,) = [one for one in list_architectures(Paging(limit=100)).data if one.name == name]
    assert known.frameworks == FRAMEWORKS
    job = JobSpec.model_validate_json(
        f'{{"framework": "torch", "dataset": "diabetes", "model": {{"architecture": "{name}"}},'
        ' "training": {"epochs": 3, "precision": "float64"}}'
    )
    data = BUILTIN[job.dataset].load(Path("/nowhere"))
    signature = data.description.signature
    definition = Definition(job.model, signature, data.preprocessing.normalisation)
    start = initial_weights(job.model, signature, 0)
    training = resolve(job.model, job.training, signature, data.description.splits.train)
    runs = {
        framework: fit(
            engine.load(framework), definition, training, data, TrainingState(start), Nobody(), device="cpu"
        )
        for framework in FRAMEWORKS
    }
    for name, tensor in declarations(job.model, signature).items():
        in_torch, in_jax = (runs[framework].weights[name] for framework in FRAMEWORKS)
        assert in_torch.shape == in_jax.shape == tensor.shape
        assert np.abs(in_torch - in_jax).max() < 1e-9, name
        assert not np.array_equal(in_torch, start[name]), f"{name} did not learn"
    rows = data.test.x[:5]
    torch_logits, jax_logits = (
        engine.load(framework).predictor(definition, runs[framework].weights, device="cpu").logits(rows)
        for framework in FRAMEWORKS
    )
    np.testing.assert_allclose(torch_logits, jax_logits, rtol=1e-5, atol=1e-6)
    assert all(isinstance(run, Fitted) for run in runs.values())


if __name__ == "__main__":
    main(sys.argv[1])
