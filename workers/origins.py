"""Where an attempt starts: its own checkpoint, another run's, a registered model, a published one, or the seed."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from models.checkpoints.choice import chosen
from models.checkpoints.origin import Origin, of_model, of_published, of_state
from models.checkpoints.published import Library
from models.errors import CorruptArtifact, Unavailable
from models.fetching import Say
from models.signature import Signature
from models.state import TrainingState, load_state
from models.weights import read_weights
from workers.messages import Assignment


def find(assignment: Assignment, signature: Signature, say: Say) -> Origin:
    """Where this attempt starts: the newest undamaged checkpoint, else what the job says.

    `signature` is what the dataset promises. Raises NotFound, Unavailable, CorruptArtifact or InvalidInput where the
    job's start cannot be had.
    """
    found = _checkpoint(assignment)
    if found is None:
        _check_none_vanished(assignment)
    return found or _first(assignment, signature, say)


def _check_none_vanished(assignment: Assignment) -> None:
    """A run that is continued while it goes on replaces its checkpoints: the next attempt is told of the new ones."""
    listed = (*assignment.checkpoints, *assignment.continued_checkpoints)
    if not all((Path(folder) / "manifest.json").exists() for folder in listed):
        raise Unavailable(
            "The checkpoints that this job could start from were replaced before they were read."
        )


def _checkpoint(assignment: Assignment) -> Origin | None:
    for folder, state in _undamaged(assignment.checkpoints):
        own = Path(assignment.checkpoint_folder).parent in folder.parents
        # What it retries had a patience and a time of its own.
        return of_state(state if own else replace(state, train_s=0.0, evaluations_without_gain=0))
    for _, state in _undamaged(assignment.continued_checkpoints):
        # Another run, perhaps on other data and with another metric: its best weights are not this run's.
        return of_state(TrainingState(state.weights, state.slots, state.step, card=state.card))
    return None


def _first(assignment: Assignment, signature: Signature, say: Say) -> Origin:
    spec = assignment.spec
    if assignment.initial_weights is not None:
        return of_model(read_weights(Path(assignment.initial_weights)))
    if (published := chosen(spec.model, spec.init)) is not None:
        return of_published(published, _library(assignment, say).fetch(published), spec.model, signature)
    if spec.init.source != "scratch":
        raise CorruptArtifact("Nothing that this job could start from is left undamaged.")
    return Origin()


def _library(assignment: Assignment, say: Say) -> Library:
    offline = assignment.pretrained_folder
    return Library(Path(assignment.pretrained_cache), None if offline is None else Path(offline), say)


def _undamaged(folders: Sequence[str]) -> Iterator[tuple[Path, TrainingState]]:
    for folder in map(Path, folders):
        try:
            yield folder, load_state(folder)
        except CorruptArtifact as error:
            sys.stderr.write(f"Skipping a checkpoint: {error.detail}\n")
