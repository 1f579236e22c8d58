"""What a trainer process does: import its framework, wait for an assignment, fit or score, hand over what it made.

`python -m workers.trainer --framework torch --messages-fd 7`. It knows no database and no queue: see
messages.py for what it is told and what it says. It ends when its standard input closes.
"""

import argparse
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from models import engine
from models.catalog import ModelSpec, parameter_count
from models.data import dataset as datasets
from models.engine import Definition, Device, Engine
from models.errors import TandemError, Unavailable
from models.fit import fit
from models.framework import FRAMEWORKS, Framework
from models.preparation import expected_signature, prepared
from models.reports import Fitted
from models.weights import ModelCard, WeightsFile, write_weights
from workers import messages, origins, sources
from workers.memory import peak_memory_bytes
from workers.observer import Channel, Inbox, Witness
from workers.scorer import Scorer


@dataclass(frozen=True)
class Trainer:
    """One attempt at one job, in this process."""

    engine: Engine
    assignment: messages.Work
    channel: Channel
    inbox: Inbox

    def run(self) -> messages.Result | messages.Scored | messages.Stopped | messages.Failed:
        """The attempt's outcome; whatever goes wrong inside becomes a Failed."""
        self.channel.say(messages.Taken())
        try:
            return self._outcome()
        except MemoryError:
            message = f"The machine's memory ran out. {self.assignment.memory_advice}"
            return messages.Failed(code="out_of_memory", message=message)
        except TandemError as error:
            retryable = isinstance(error, Unavailable)
            return messages.Failed(code=error.specific_code, message=error.detail, retryable=retryable)
        except Exception as error:  # noqa: BLE001 - the last frame of this process: say it, then end
            traceback.print_exc()
            return messages.Failed(
                code="trainer_error", message=f"{type(error).__name__}: {error}", retryable=True
            )

    def _outcome(self) -> messages.Result | messages.Scored | messages.Stopped:
        match self.assignment:
            case messages.ScoringAssignment():
                return Scorer(self.engine, self.assignment, self.channel, self.inbox).run()
            case messages.Assignment():
                return Fitter(self.engine, self.assignment, self.channel, self.inbox).run()


@dataclass(frozen=True)
class Fitter:
    """One attempt at training."""

    engine: Engine
    assignment: messages.Assignment
    channel: Channel
    inbox: Inbox

    def run(self) -> messages.Result | messages.Stopped:
        """Train until the end, or until it is told to stop. Raises TandemError."""
        began = time.monotonic()
        spec = self.assignment.spec
        stored = sources.dataset(self.assignment, self.channel)
        origin = origins.find(self.assignment, expected_signature(stored.description, spec), self._say)
        dataset = prepared(stored, spec, origin.known, Path(self.assignment.work_folder))
        card = _card(spec.model, dataset)
        state = origin.begin(card, spec.training.seed)
        if self.inbox.stop is not None:
            return messages.Stopped(step=state.step)
        self._say("building the network")
        fitted = fit(
            self.engine,
            Definition(spec.model, card.signature, card.preprocessing.normalisation),
            spec.training,
            dataset,
            state,
            Witness(self.assignment, self.channel, self.inbox, began),
            device=self.assignment.device,
        )
        if isinstance(fitted, Fitted):
            return self._result(fitted, card)
        return messages.Stopped(step=fitted.step)

    def _result(self, fitted: Fitted, card: ModelCard) -> messages.Result:
        path = Path(self.assignment.work_folder) / "model.safetensors"
        write_weights(WeightsFile(card, fitted.weights), path)
        timing = {"train_s": fitted.train_s, "compile_s": fitted.compile_s}
        if fitted.samples_per_s is not None:
            timing["samples_per_s"] = fitted.samples_per_s
        return messages.Result(
            weights=str(path),
            step=fitted.step,
            signature=card.signature,
            parameters=parameter_count(card.model, card.signature),
            metrics=fitted.metrics,
            timing=timing,
            peak_memory_bytes=peak_memory_bytes(),
            stop_reason=fitted.stop_reason,
        )

    def _say(self, phase: str) -> None:
        self.channel.say(messages.Phase(text=phase))


def _card(model: ModelSpec, dataset: datasets.Dataset) -> ModelCard:
    assert dataset.preprocessing is not None  # plain texts have none, and no network takes those
    return ModelCard(
        model=model,
        signature=dataset.description.signature,
        preprocessing=dataset.preprocessing,
        classes=dataset.description.classes,
    )


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
    faulthandler.register(signal.SIGUSR2)  # for TrainerProcess.dump_stacks
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
