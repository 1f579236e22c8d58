import json
from pathlib import Path

import numpy as np
import pytest

from models.errors import CorruptArtifact
from models.state import Sums, TrainingState, load_state, save_state


def some_state():
    generator = np.random.default_rng(0)
    weights = {"fc.weight": generator.normal(size=(3, 2)), "bn.num_batches_tracked": np.array(7)}
    return TrainingState(
        weights=weights,
        slots={"exp_avg": {"fc.weight": generator.normal(size=(3, 2)).T}},
        step=41,
        epoch_sums=Sums(1.5, 20.0, 3),
        interval_sums=Sums(0.1, 3.0, 1),
        train_s=2.5,
        best_value=0.9,
        best_step=40,
        evaluations_without_gain=1,
        best_weights={"fc.weight": np.ones((3, 2))},
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    state = some_state()
    save_state(state, tmp_path / "41")
    found = load_state(tmp_path / "41")
    for part in ("weights", "best_weights"):
        for name, array in getattr(state, part).items():
            assert np.array_equal(getattr(found, part)[name], array)
            assert getattr(found, part)[name].shape == array.shape
            assert getattr(found, part)[name].dtype == array.dtype
    assert np.array_equal(found.slots["exp_avg"]["fc.weight"], state.slots["exp_avg"]["fc.weight"])
    for name in ("step", "epoch_sums", "interval_sums", "train_s", "best_value", "best_step"):
        assert getattr(found, name) == getattr(state, name)


def test_a_flipped_bit_is_noticed(tmp_path):
    save_state(some_state(), tmp_path)
    path = tmp_path / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptArtifact, match="does not match its hash"):
        load_state(tmp_path)


@pytest.mark.parametrize("missing", ["manifest.json", "state.safetensors"])
def test_an_incomplete_checkpoint_is_refused(tmp_path, missing):
    save_state(some_state(), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(CorruptArtifact):
        load_state(tmp_path)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path):
    save_state(some_state(), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": "other"}))
    with pytest.raises(CorruptArtifact, match="format"):
        load_state(tmp_path)


def test_nothing_but_the_checkpoint_is_left_in_the_folder(tmp_path):
    save_state(some_state(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "state.safetensors"]
