"""What a trainer process does: import its framework, wait for an assignment, fit, hand over the weights.

`python -m workers.trainer --framework torch --messages-fd 7`. It knows no database and no queue: see
messages.py for what it is told and what it says. It ends when its standard input closes.
"""

import argparse
import faulthandler
import fcntl
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from models import engine
from models.catalog import parameter_count
from models.data import dataset as datasets
from models.data.builtin import BUILTIN
from models.engine import Definition, Device, Engine
from models.errors import CorruptArtifact, TandemError, Unavailable
from models.fit import fit
from models.framework import FRAMEWORKS, Framework
from models.initial import initial_weights
from models.reports import Fitted
from models.state import TrainingState, load_state
from models.weights import ModelCard, Weights, WeightsFile, check_weights, read_weights, write_weights
from workers import messages
from workers.observer import Channel, Inbox, Witness


@dataclass(frozen=True)
class Trainer:
    """One attempt at one job, in this process."""

    engine: Engine
    assignment: messages.Assignment
    channel: Channel
    inbox: Inbox

    def run(self) -> messages.Result | messages.Stopped | messages.Failed:
        """The attempt's outcome; whatever goes wrong inside becomes a Failed."""
        try:
            return self._fit()
        except MemoryError:
            return messages.Failed(code="out_of_memory", message=self._too_little_memory())
        except TandemError as error:
            retryable = isinstance(error, Unavailable)
            return messages.Failed(code=error.specific_code, message=error.detail, retryable=retryable)
        except Exception as error:  # noqa: BLE001 - the last frame of this process: say it, then end
            traceback.print_exc()
            return messages.Failed(
                code="trainer_error", message=f"{type(error).__name__}: {error}", retryable=True
            )

    def _fit(self) -> messages.Result | messages.Stopped:
        began = time.monotonic()
        dataset = self._dataset()
        spec = self.assignment.spec
        signature = dataset.description.signature
        assert dataset.preprocessing is not None  # plain texts have none, and no network takes those
        card = ModelCard(
            model=spec.model,
            signature=signature,
            preprocessing=dataset.preprocessing,
            classes=dataset.description.classes,
        )
        state = self._state(card)
        if self.inbox.stop is not None:
            return messages.Stopped(step=state.step)
        self.channel.say(messages.Phase(text="building the network"))
        fitted = fit(
            self.engine,
            Definition(spec.model, signature, dataset.preprocessing.normalisation),
            spec.training,
            dataset,
            state,
            Witness(self.assignment, self.channel, self.inbox, began),
            device=self.assignment.device,
        )
        if isinstance(fitted, Fitted):
            return self._result(fitted, card)
        return messages.Stopped(step=fitted.step)

    def _dataset(self) -> datasets.Dataset:
        """The dataset, memory-mapped from its file; a built-in one is made into a file first."""
        source = self.assignment.dataset
        if isinstance(source, messages.StoredDataset):
            return datasets.read(Path(source.path))
        self.channel.say(messages.Phase(text=f"preparing {source.name}"))
        path = Path(self.assignment.work_folder) / "dataset.safetensors"
        with _alone(path.parents[1] / "datasets.lock"):
            datasets.write(BUILTIN[source.name].load(Path(source.folder)), path)
        self.channel.say(messages.DatasetPrepared(path=str(path)))
        return datasets.read(path)

    def _state(self, card: ModelCard) -> TrainingState:
        """Where to start: the newest undamaged checkpoint, else the given weights, else the seed's."""
        state = self._newest_checkpoint() or TrainingState(self._first_weights(card))
        check_weights(state.weights, card)
        return state

    def _newest_checkpoint(self) -> TrainingState | None:
        for folder, state in _undamaged(self.assignment.checkpoints):
            own = Path(self.assignment.checkpoint_folder).parent in folder.parents
            # What it retries had a patience and a time of its own.
            return state if own else replace(state, train_s=0.0, evaluations_without_gain=0)
        for _, state in _undamaged(self.assignment.continued_checkpoints):
            # Another run, perhaps on other data and with another metric: its best weights are not this run's.
            return TrainingState(state.weights, state.slots, state.step)
        return None

    def _first_weights(self, card: ModelCard) -> Weights:
        if self.assignment.initial_weights is not None:
            return read_weights(Path(self.assignment.initial_weights)).weights
        if self.assignment.spec.init.source != "scratch":
            raise CorruptArtifact("Nothing that this job could start from is left undamaged.")
        return initial_weights(card.model, card.signature, self.assignment.spec.training.seed)

    def _result(self, fitted: Fitted, card: ModelCard) -> messages.Result:
        path = Path(self.assignment.work_folder) / "model.safetensors"
        write_weights(WeightsFile(card, fitted.weights), path)
        timing = {"train_s": fitted.train_s, "compile_s": fitted.compile_s}
        if fitted.samples_per_s is not None:
            timing["samples_per_s"] = fitted.samples_per_s
        return messages.Result(
            weights=str(path),
            step=fitted.step,
            parameters=parameter_count(card.model, card.signature),
            metrics=fitted.metrics,
            timing=timing,
            stop_reason=fitted.stop_reason,
        )

    def _too_little_memory(self) -> str:
        batch = self.assignment.spec.training.batch_size or 1
        return f"The machine's memory ran out. Try a batch_size of {max(1, batch // 2)}."


def _undamaged(folders: Sequence[str]) -> Iterator[tuple[Path, TrainingState]]:
    for folder in map(Path, folders):
        try:
            yield folder, load_state(folder)
        except CorruptArtifact as error:
            sys.stderr.write(f"Skipping a checkpoint: {error.detail}\n")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait while another trainer of this data folder fetches a dataset: both would write the same files."""
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, required=True)
    parser.add_argument("--device", choices=get_args(Device), default="auto")
    parser.add_argument("--messages-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    serve(options.framework, options.device, Channel(options.messages_fd))


def serve(framework: Framework, device: Device, channel: Channel) -> None:
    """Warm up, then make one attempt and say how it ended."""
    inbox = Inbox(sys.stdin.buffer)
    loaded = engine.load(framework)
    with suppress(TandemError):  # the attempt meets it again, and can tell it
        loaded.warm_up(device)
    channel.say(messages.Ready())
    assignment = inbox.assignment()
    channel.say(Trainer(loaded, assignment, channel, inbox).run())
    # Frameworks take long to tear down, and nothing of theirs is left to do.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
