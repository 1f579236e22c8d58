"""One attempt at the prediction of a dataset, in a trainer process."""

import time
from dataclasses import dataclass
from pathlib import Path

from models.data.dataset import Dataset
from models.engine import Definition, Predictor, Server
from models.scoring.parts import Parts
from models.scoring.run import Run
from models.weights import WeightsFile, read_weights
from workers import messages, sources
from workers.observer import Channel, Inbox


@dataclass(frozen=True)
class Scorer:
    """What it writes, it writes for the next attempt too; see `models.scoring`."""

    engine: Server
    assignment: messages.ScoringAssignment
    channel: Channel
    inbox: Inbox

    def run(self) -> messages.Scored | messages.Stopped:
        """Score until the end, or until it is told to stop. Raises TandemError."""
        began = time.monotonic()
        file = read_weights(Path(self.assignment.weights))
        dataset = sources.dataset(self.assignment, self.channel)
        self._say("loading the model")
        predictor = self._predictor(file)
        run = self._begun(predictor, file, dataset)
        if self.inbox.stop is not None:
            return messages.Stopped(step=run.rows)
        self._started(predictor, run, began)
        return self._scored(run)

    def _predictor(self, file: WeightsFile) -> Predictor:
        card = file.card
        definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
        about = self.assignment
        return self.engine.predictor(
            definition, file.weights, device=about.device, precision=about.spec.precision
        )

    def _begun(self, predictor: Predictor, file: WeightsFile, dataset: Dataset) -> Run:
        about = self.assignment
        parts = Parts(Path(about.part_folder), [Path(folder) for folder in about.earlier_parts])
        return Run(predictor, file.card, dataset, about.spec, parts, part_every_s=about.part_every_s)

    def _started(self, predictor: Predictor, run: Run, began: float) -> None:
        self.channel.say(
            messages.Started(
                device=predictor.device,
                step=run.rows,
                total_steps=self.assignment.spec.rows,
                setup_s=time.monotonic() - began,
            )
        )
        self._say("scoring")
        self.channel.say(messages.RowsScored(rows=run.rows, samples_per_s=None))

    def _scored(self, run: Run) -> messages.Scored | messages.Stopped:
        began = time.monotonic()
        pace = Pace()
        for count in run.batches():
            if pace.is_first:
                self.channel.say(messages.FirstStep())
            pace.count(count)
            self.channel.say(messages.RowsScored(rows=run.rows, samples_per_s=pace.samples_per_s))
            if self.inbox.stop is not None:
                run.save()
                return messages.Stopped(step=run.rows)
        self._say(f"writing {self.assignment.spec.format}")
        path = Path(self.assignment.work_folder) / f"result.{self.assignment.spec.format}"
        metrics = run.write(path)
        timing = {"score_s": time.monotonic() - began}
        if pace.samples_per_s is not None:
            timing["samples_per_s"] = pace.samples_per_s
        return messages.Scored(file=str(path), metrics=metrics, timing=timing)

    def _say(self, phase: str) -> None:
        self.channel.say(messages.Phase(text=phase))


class Pace:
    """How fast rows go by; the first batch, which may compile, is left out."""

    def __init__(self) -> None:
        self.is_first = True
        self._began = time.monotonic()
        self._rows = 0

    def count(self, rows: int) -> None:
        if self.is_first:
            self.is_first, self._began = False, time.monotonic()
        else:
            self._rows += rows

    @property
    def samples_per_s(self) -> float | None:
        return self._rows / (time.monotonic() - self._began) if self._rows else None
