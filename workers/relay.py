"""What a trainer's report means for the job's row."""

from pathlib import Path

from workers import messages
from workers.ledger import News
from workers.reports import Checkpoint, Metrics, Progress, RowProgress


def news(report: messages.Report, started: messages.Started | None) -> News | None:
    """What to record of a report; None if nothing. `started` is the attempt's Started, once it was said."""
    match report:
        case messages.Phase():
            return News(phase=report.text)
        case messages.Started():
            return News(device=report.device, timing={"setup_s": report.setup_s})
        case messages.FirstStep():
            return None if report.compile_s is None else News(timing={"compile_s": report.compile_s})
        case messages.Progressed():
            return _progress(report, started)
        case messages.RowsScored():
            return _rows(report, started)
        case messages.Measured():
            return _point(report)
        case messages.CheckpointWritten():
            return News(reports=(_checkpoint(report),))
    return None


def _progress(report: messages.Progressed, started: messages.Started | None) -> News | None:
    if started is None:
        return None
    timing = {} if report.samples_per_s is None else {"samples_per_s": report.samples_per_s}
    progress = Progress(report.epoch, started.epochs, report.step, started.total_steps)
    return News(progress=progress, timing=timing)


def _rows(report: messages.RowsScored, started: messages.Started | None) -> News | None:
    if started is None:
        return None
    timing = {} if report.samples_per_s is None else {"samples_per_s": report.samples_per_s}
    return News(progress=RowProgress(report.rows, started.total_steps), timing=timing)


def _point(report: messages.Measured) -> News:
    """An epoch's training means have names of their own: `train_loss` has a point every few steps already."""
    train, validation = _part(report.values, "train_"), _part(report.values, "validation_")
    if report.span == "train":
        return News(reports=(Metrics(report.step, report.epoch, "train", train),))
    means = {f"train_{name}": value for name, value in train.items()}
    reports = [Metrics(report.step, report.epoch, "epoch_train", train)]
    if validation:
        reports.append(Metrics(report.step, report.epoch, "validation", validation))
    return News(metrics=means, reports=tuple(reports))


def _part(values: dict[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _checkpoint(report: messages.CheckpointWritten) -> Checkpoint:
    """The folder as the table keeps it: `<job>/<fence>/<step>`, wherever the checkpoints are mounted."""
    folder = "/".join(Path(report.folder).parts[-3:])
    return Checkpoint(report.step, report.epoch, folder, report.size_bytes)
