"""Files of torch.save, read by the process that reads them: what it takes, and what it refuses with one sentence."""

import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.checkpoints import process
from models.errors import InvalidInput
from models.tensor_files import read

# Reads one file after another, each in a child of its own, so that torch is imported once for all of them.
READER = """
import os, sys
from models.checkpoints import torch
for line in sys.stdin:
    if (child := os.fork()) == 0:
        sys.argv = ["torch", "convert", *line.rstrip("\\n").split("\\t")]
        torch.main()
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        print('{"error": "the process died"}', flush=True)
"""


@pytest.fixture(scope="module")
def answered():
    """What the process answers about a file."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:

        def answer(source, target):
            reader.stdin.write(f"{source}\t{target}\n")
            reader.stdin.flush()
            return json.loads(reader.stdout.readline())

        yield answer
        reader.stdin.close()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def state():
    return network().state_dict()


def cast(dtype):
    return {name: array.to(dtype) if array.is_floating_point() else array for name, array in state().items()}


class Runs:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


# --- what is read -------------------------------------------------------------------------------------------------

TAKEN = {
    "a state_dict": (state(), state()),
    "in state_dict": ({"state_dict": state(), "epoch": 3, "optimizer": {"state": {}}}, state()),
    "in model": ({"model": state(), "args": {"lr": 0.1}}, state()),
    "in both": ({"model": {"state_dict": state()}}, state()),
    "bfloat16": (cast(torch.bfloat16), cast(torch.bfloat16)),
    "float16": (cast(torch.float16), cast(torch.float16)),
    "float64": (cast(torch.float64), cast(torch.float64)),
    "parameters": (dict(network().named_parameters()), dict(network().named_parameters())),
    "sparse": ({"a": torch.eye(40).to_sparse()}, {"a": torch.eye(40)}),
    "views": (
        {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1 + 2j]).conj().imag},
        {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([-2.0])},
    ),
    "no elements": ({"a": torch.zeros(0, 3)}, {"a": torch.zeros(0, 3)}),
    "integers": ({"a": torch.arange(3, dtype=torch.int8)}, {"a": torch.arange(3, dtype=torch.int8)}),
}


def assert_equal(found, expected):
    assert list(found) == sorted(found, key=lambda name: (-found[name].itemsize, name))
    assert found.keys() == expected.keys()
    for name, array in found.items():
        tensor = expected[name].detach()
        whole = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
        assert array.dtype == whole.numpy().dtype, name
        np.testing.assert_array_equal(array, whole.numpy(), err_msg=name)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", TAKEN)
def test_tensors_are_read_whatever_they_are_wrapped_in(answered, tmp_path, name, legacy):
    content, expected = TAKEN[name]
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=not legacy)
    assert answered(tmp_path / "net.pth", tmp_path / "out") == {"tensors": len(expected)}
    assert_equal(read(tmp_path / "out")[1], expected)


# --- what is refused ----------------------------------------------------------------------------------------------

DAMAGED = "it is damaged or not a file of torch.save"
MORE = r"it holds more than tensors \(weights_only refuses it: .*\)\. Save `model\.state_dict\(\)`, not the model"
REFUSED = {
    "whole module": (network(), MORE),
    "module in model": ({"model": network(), "epoch": 1}, MORE),
    "expanded": ({"a": torch.zeros(1).expand(10**9)}, "its tensors claim far more numbers than it holds"),
    "large sparse": ({"a": torch.eye(2000).to_sparse()}, "its tensors claim far more numbers than it holds"),
    "huge sparse": (
        {"a": torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (2**40,), check_invariants=True)},
        "its tensors claim far more numbers than it holds",
    ),
    "empty": ({}, "it holds no tensors"),
    "empty inside": ({"state_dict": {}}, "it holds no tensors"),
    "text entry": ({"a": torch.zeros(2), "note": "hello"}, "its entry 'note' is of type str, not a tensor"),
    "numbers as keys": ({3: torch.zeros(2)}, "its key '3' is of type int, not a tensor's name"),
    "list": ([torch.zeros(2)], "what it holds is of type list, not the tensors of a state_dict"),
    "tensor": (torch.zeros(2), "what it holds is of type Tensor, not the tensors of a state_dict"),
    "complex": ({"a": torch.zeros(2, dtype=torch.complex64)}, "its tensor 'a' holds complex64, which is not read"),
    "eight bits": (
        {"a": torch.zeros(2).to(torch.float8_e4m3fn)},
        "its tensor 'a' holds float8_e4m3fn, which is not read",
    ),
    "without numbers": ({"a": torch.zeros(3, device="meta")}, "its tensor 'a' has a shape, but no numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_contents_are_refused_with_one_sentence(answered, tmp_path, name):
    content, words = REFUSED[name]
    torch.save(content, tmp_path / "net.pth")
    assert_refused(answered, tmp_path, words)


def assert_refused(answered, folder, words):
    answer = answered(folder / "net.pth", folder / "out")
    assert answer.keys() == {"error"}
    assert re.fullmatch(words, answer["error"]), answer["error"]
    assert str(folder) not in answer["error"]
    assert not (folder / "out").exists()


def saved(content, **options):
    """The bytes of a file of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


WHOLE, LEGACY = saved(state()), saved(state(), _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"hello, this is no checkpoint\n" * 20, b"<!DOCTYPE html><html></html>", os.urandom(5000)),
        *(WHOLE[: len(WHOLE) // 2], WHOLE[:-30], WHOLE[100:], LEGACY[:-20], LEGACY[: len(LEGACY) // 2]),
        *(pickle.dumps({"a": 1})[:-1], pickle.dumps(Runs("/nowhere/marker"), protocol=4)),
    ],
    ids=["none", "text", "html", "random", *("half", "cut", "headless", "legacy cut", "legacy half"), "pickle", "p4"],
)  # fmt: skip
def test_what_torch_did_not_save_is_refused(answered, tmp_path, content):
    (tmp_path / "net.pth").write_bytes(content)
    assert_refused(answered, tmp_path, DAMAGED)


def test_an_archive_of_other_files_is_refused(answered, tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/readme", "hello")
    assert_refused(answered, tmp_path, DAMAGED)


def test_a_program_of_torchscript_is_refused(answered, tmp_path):
    archive = zipfile.ZipFile(tmp_path / "net.pth", "w")
    with archive:
        for name, data in {
            "constants.pkl": b"",
            "data.pkl": b"",
            "version": b"3\n",
            "code/a.py": b"",
        }.items():
            archive.writestr(f"net/{name}", data)
    assert_refused(answered, tmp_path, r"it is a TorchScript program\. Save .*")


def deflated(content, path, claimed=None):
    """The same file with its storages compressed, which torch reads too; they may claim to be larger than they are."""
    with zipfile.ZipFile(io.BytesIO(saved(content))) as whole, zipfile.ZipFile(path, "w") as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
            if claimed is not None and "/data/" in name:
                small.getinfo(name).file_size = claimed


def test_compression_makes_no_large_network_of_a_small_file(answered, tmp_path):
    deflated({"a": torch.zeros(4_000_000)}, tmp_path / "net.pth")
    assert (tmp_path / "net.pth").stat().st_size < 100_000
    assert_refused(answered, tmp_path, "its tensors claim far more numbers than it holds")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space")
def test_a_file_gets_no_more_memory_than_its_size_allows(answered, tmp_path):
    deflated({"a": torch.zeros(1)}, tmp_path / "net.pth", claimed=3_000_000_000)
    assert_refused(answered, tmp_path, "it needs more memory than its size allows")


@pytest.mark.parametrize("protocol", [2, None], ids=["bare", "in torch.save"])
def test_a_pickle_that_runs_a_program_runs_nothing(answered, tmp_path, protocol):
    marker = tmp_path / "marker"
    content = {"a": torch.zeros(2), "b": Runs(marker)}
    if protocol is None:
        torch.save(content, tmp_path / "net.pth")
    else:
        (tmp_path / "net.pth").write_bytes(pickle.dumps({"b": Runs(marker)}, protocol))
    assert_refused(answered, tmp_path, MORE)
    assert not marker.exists()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "net.pth", weights_only=True)
    pickle.loads(pickle.dumps(Runs(marker)))  # it would have run one
    assert marker.exists()


# --- the process itself -------------------------------------------------------------------------------------------


def test_a_refusal_leaves_no_file(tmp_path):
    torch.save(network(), tmp_path / "net.pth")
    (tmp_path / "out").write_bytes(b"begun")
    with pytest.raises(InvalidInput, match=f"^The checkpoint cannot be read: {MORE}\\.$") as caught:
        process.convert(tmp_path / "net.pth", tmp_path / "out")
    assert caught.value.specific_code == "unreadable_checkpoint"
    assert not (tmp_path / "out").exists()


def test_a_file_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "READING_S", 0.01)
    torch.save(state(), tmp_path / "net.pth")
    (tmp_path / "out").write_bytes(b"begun")
    with pytest.raises(InvalidInput, match="could not be read in 0 s"):
        process.convert(tmp_path / "net.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_torchvision_says_where_its_weights_are():
    assert process.locate("ResNet50_Weights.IMAGENET1K_V2").endswith("/resnet50-11ad3fa6.pth")


READING = """
import sys
from pathlib import Path
from models.checkpoints import process
process.convert(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture
def waiting(tmp_path):
    """A process of ours, and its reader, which waits for a file that never comes."""
    os.mkfifo(tmp_path / "never.pth")
    environment = {
        **os.environ,
        "TANDEM_API_KEY": "secret",
        "TANDEM_DATABASE_URL": "postgresql://me:secret@db/x",
    }
    with subprocess.Popen(
        [sys.executable, "-c", READING, str(tmp_path / "never.pth"), str(tmp_path / "target")],
        env=environment,
    ) as ours:
        children = Path(f"/proc/{ours.pid}/task/{ours.pid}/children")
        assert eventually(lambda: children.read_text())
        reader = int(children.read_text())
        assert eventually(lambda: b"models.checkpoints.torch" in Path(f"/proc/{reader}/cmdline").read_bytes())
        yield ours, reader
        ours.kill()
    with suppress(ProcessLookupError):
        os.kill(reader, signal.SIGKILL)


def eventually(condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_reader_is_told_no_secrets(waiting):
    _, reader = waiting
    environment = Path(f"/proc/{reader}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"secret" not in environment


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it")
def test_the_reader_ends_with_who_asked(waiting):
    ours, reader = waiting
    ours.kill()
    ours.wait()
    assert eventually(lambda: is_dead(reader))


def is_dead(pid):
    """Dead, though perhaps not reaped."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
