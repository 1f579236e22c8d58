"""The supervisor's hold on a trainer: what it says arrives whole, and what it cannot obey ends it."""

import sys

import pytest

from models.signature import Signature, TableInput
from workers import messages
from workers.trainer_process import LONGEST_LINE, TrainerProcess

WIDE = TableInput(features=4000, columns=tuple(f"{column:0>400}" for column in range(4000)))
RESULT = messages.Result(
    weights="model.safetensors",
    step=1,
    signature=Signature(task="tabular-classification", input=WIDE, outputs=2),
    parameters=1,
    metrics={},
    timing={},
)


@pytest.fixture
def speaker(tmp_path):
    """A trainer that says the result, and prints it too."""
    (tmp_path / "result").write_bytes(RESULT.line())
    lines = [
        "import os, sys",
        f"line = open({str(tmp_path / 'result')!r}, 'rb').read()",
        "sys.stdout.buffer.write(line)",
        "sys.stdout.flush()",
        "open(int(sys.argv[-1]), 'wb').write(line)",
    ]
    trainer = TrainerProcess([sys.executable, "-c", "; ".join(lines)], {})
    yield trainer
    trainer.close()


def test_the_result_of_a_wide_table_arrives_whole_and_its_log_in_pieces(speaker, eventually):
    said, printed = [], []

    def is_over():
        printed.extend(speaker.log.read())
        said.extend(speaker.reports.read())
        return speaker.log.ended and speaker.reports.ended

    assert eventually(is_over)
    assert [messages.read_report(line) for line in said] == [RESULT]
    assert len(printed) > 1
    assert all(len(piece) <= LONGEST_LINE + (1 << 16) for piece in printed)


def test_a_trainer_that_is_told_what_it_does_not_know_ends_and_says_so(toy_trainer, eventually):
    trainer = TrainerProcess(*toy_trainer)
    trainer.process.stdin.write(b'{"kind":"assignment","from":"a newer version"}\n')
    trainer.process.stdin.flush()
    assert eventually(lambda: not trainer.alive)
    assert trainer.process.returncode == 1
    assert any(b"ValidationError" in line for line in trainer.log.read())
    trainer.close()
