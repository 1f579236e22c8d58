"""The OpenVINO engine computes what torch computes, for every network that it can run."""

import importlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from models import engine
from models.durable import sha256_of
from models.errors import EngineUnavailable, NotInstalled, NotSupported
from models.frameworks.openvino import exporter, graph_files
from models.frameworks.openvino import graphs as graphs_module
from models.kept_files import KeptFiles
from tests.models.definitions import CASES, about, batch

ROOT = Path(__file__).parents[2]
STARTED = """
import sys
from pathlib import Path
from models.engine import load_server
from models.kept_files import KeptFiles
from tests.models.definitions import CASES, about, batch

name, folder = sys.argv[1:]
definition, weights = about(name)
predictor = load_server("openvino").predictor(definition, weights, kept=KeptFiles(Path(folder), 10**9))
print("torch" in sys.modules, predictor.logits(batch(CASES[name][1], 3)).tobytes().hex())
"""

LACKED = """
import torch
from models.frameworks.openvino import exporting

class Bessel(torch.nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)

exporting.network_of = lambda *_: Bessel()
"""
"""A network with an operation that OpenVINO lacks."""


def predictors(name, precision="float32", kept=None):
    definition, weights = about(name)
    return [
        engine.load_server(one).predictor(definition, weights, precision=chosen, kept=kept)
        for one, chosen in (("openvino", precision), ("torch", "float32"))
    ]


@pytest.fixture
def kept(tmp_path):
    return KeptFiles(tmp_path / "graphs", 10**9)


def graphs(kept):
    return sorted(kept.folder.glob("*.zip"))


@pytest.mark.parametrize("name", CASES)
def test_every_batch_gives_torchs_logits(name, kept):
    new, reference = predictors(name, kept=kept)
    (graph,) = graphs(kept)
    assert sorted(kept.folder.iterdir()) == [graph, about_of(graph)]
    written = graph.stat().st_ino
    again, _ = predictors(name, kept=kept)
    assert [one.stat().st_ino for one in graphs(kept)] == [written]
    for found in (new, again):
        _check(found, reference, name)


def test_a_process_that_predicts_does_without_torch(kept):
    """A trace replaces what torch's modules do in the whole process, predictions of other threads among it."""

    def started():
        command = [sys.executable, "-c", STARTED, "cnn", str(kept.folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()

    imported, first = started()
    (written,) = [one.stat().st_ino for one in graphs(kept)]
    assert started() == [imported, first]
    assert imported == "False"
    assert [one.stat().st_ino for one in graphs(kept)] == [written]


def test_an_export_that_fails_says_why_and_keeps_nothing(kept, monkeypatch):
    monkeypatch.setattr(exporter, "MAIN", "import models.nowhere")
    monkeypatch.setattr(graphs_module, "EXPORTER", exporter.Exporter())
    with pytest.raises(
        EngineUnavailable, match=r"exports the graph of 'mlp' failed: .*No module named 'models\.nowhere'"
    ):
        predictors("mlp", kept=kept)
    assert not kept.folder.exists() or list(kept.folder.iterdir()) == []


def test_a_process_exports_one_graph_after_the_other_until_it_rests(tmp_path, monkeypatch):
    graphs_module.EXPORTER._end()  # its process is no child any more
    ours, before = exporter.Exporter(), set(children())

    def export(name):
        definition, weights = about(name)
        ours.export(definition, weights, tmp_path / f"{name}.zip")
        assert graph_files.read(tmp_path / f"{name}.zip").inputs

    export("linear")
    (first,) = set(children()) - before
    with pytest.raises(EngineUnavailable, match=r"graph of 'cnn' failed: \w+Error: "):
        ours.export(*about("cnn"), tmp_path / "linear.zip/cnn.zip")
    export("mlp")
    assert set(children()) - before == {first}
    first.kill()
    monkeypatch.setattr(exporter, "IDLE_S", 0.1)
    export("mlp")
    (second,) = set(children()) - before
    second.wait(timeout=20)
    assert set(children()) == before
    assert {one.name for one in tmp_path.iterdir()} == {"linear.zip", "mlp.zip"}


def children():
    return psutil.Process().children()


def test_a_process_that_is_killed_at_work_is_told(tmp_path):
    graphs_module.EXPORTER._end()
    ours, before = exporter.Exporter(), set(children())
    with ThreadPoolExecutor(1) as threads:
        exporting = threads.submit(ours.export, *about("linear"), tmp_path / "linear.zip")
        while not (started := set(children()) - before):
            time.sleep(0.01)
        started.pop().kill()
        with pytest.raises(EngineUnavailable, match="graph of 'linear' failed: status -9"):
            exporting.result()
        exporting = threads.submit(ours.export, *about("linear"), tmp_path / "linear.zip")
        while not set(children()) - before:
            time.sleep(0.01)
        ours.stop()
        with pytest.raises(EngineUnavailable, match=r"The server is stopping\."):
            exporting.result()
        with pytest.raises(EngineUnavailable, match=r"The server is stopping\."):
            ours.export(*about("linear"), tmp_path / "linear.zip")
    assert set(children()) == before


def test_what_cannot_be_sent_leaves_nothing_of_it_for_the_next(tmp_path):
    ours = exporter.Exporter()
    definition, weights = about("mlp")
    with pytest.raises(EngineUnavailable, match="graph of 'mlp' failed: "):
        ours.export(definition, {**weights, "unsendable": threading.Lock()}, tmp_path / "mlp.zip")
    assert ours._process is None  # whose pipe has half of it
    assert list(tmp_path.iterdir()) == []


def test_code_that_was_updated_exports_nothing_for_what_was_started_before(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "makers", lambda: "older")
    ours = exporter.Exporter()
    with pytest.raises(EngineUnavailable, match="was updated since this server started"):
        ours.export(*about("linear"), tmp_path / "linear.zip")
    ours.stop()


def test_an_export_ends_with_who_wanted_it(kept):
    command = [sys.executable, "-c", STARTED, "cnn", str(kept.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        exporters = []
        while not exporters and process.poll() is None:
            exporters = psutil.Process(process.pid).children()
        while "libtorch" not in Path(f"/proc/{exporters[0].pid}/maps").read_text():  # it has begun
            time.sleep(0.01)
        process.kill()
    _, alive = psutil.wait_procs(exporters, timeout=20)
    assert (len(exporters), alive) == (1, [])
    assert not list(kept.folder.glob("*.zip"))


@pytest.mark.parametrize(
    ("cores", "threads", "expected"), [(1, 1, 1), (2, 1, 1), (4, 2, 1), (8, 4, 2), (16, 1, 4)]
)
def test_batches_at_a_time_leave_each_its_threads(cores, threads, expected):
    found = importlib.import_module("models.frameworks.openvino.serving")
    assert found.streams(cores, threads) == expected


@pytest.mark.parametrize(("slight_s", "expected"), [(60.0, 2), (0.0, 1)], ids=["slight", "large"])
def test_a_slight_network_has_one_thread_and_a_large_one_has_more(slight_s, expected, monkeypatch):
    server = engine.load_server("openvino")
    monkeypatch.setattr(server.serving, "SLIGHT_S", slight_s)
    assert server.predictor(*about("linear"), cores=2).streams == expected


def test_a_graph_is_of_its_weights_network_and_makers(monkeypatch):
    graphs = importlib.import_module("models.frameworks.openvino.graphs")
    definition, weights = about("cnn")
    found = graphs.digest(definition, weights)
    assert found == graphs.digest(*about("cnn"))
    assert found != graphs.digest(about("mlp")[0], weights)
    changed = {**weights, "fc.bias": weights["fc.bias"] + 1}
    assert found != graphs.digest(definition, changed)
    monkeypatch.setattr(graphs, "makers", lambda: "others")
    assert found != graphs.digest(definition, weights)


def test_other_weights_get_another_graph_and_a_damaged_one_is_made_again(kept):
    definition, weights = about("cnn")
    server = engine.load_server("openvino")
    x = batch(CASES["cnn"][1], 3)
    first = server.predictor(definition, weights, kept=kept).logits(x)
    doubled = {name: array * 2 if name.startswith("fc") else array for name, array in weights.items()}
    np.testing.assert_allclose(
        server.predictor(definition, doubled, kept=kept).logits(x), first * 2, rtol=1e-4
    )
    assert len(graphs(kept)) == 2
    for graph in graphs(kept):
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        note = json.loads(about_of(graph).read_text())
    np.testing.assert_array_equal(server.predictor(definition, weights, kept=kept).logits(x), first)
    # Whole, but no graph.
    for graph in graphs(kept):
        graph.write_bytes(b"no graph")
        about_of(graph).write_text(json.dumps({**note, "sha256": sha256_of(graph)}))
    np.testing.assert_array_equal(server.predictor(definition, weights, kept=kept).logits(x), first)


def test_a_folder_that_cannot_be_written_costs_only_another_export(kept):
    definition, weights = about("mlp")
    kept.folder.rmdir()
    kept.folder.touch()
    x = batch(CASES["mlp"][1], 3)
    found = engine.load_server("openvino").predictor(definition, weights, kept=kept).logits(x)
    np.testing.assert_array_equal(found, predictors("mlp")[0].logits(x))


def about_of(graph):
    return graph.with_name(graph.name + ".json")


def _check(found, reference, name):
    for rows in (1, 7, 2, 33, 23, 24):  # 23 texts have more tokens than the one that was traced, 24 have one
        x = batch(CASES[name][1], rows, rows)
        expected = reference.logits(x)
        logits = found.logits(x)
        assert (logits.shape, logits.dtype) == ((rows, 5), np.float32)
        np.testing.assert_allclose(logits, expected, atol=2e-5 * max(1, np.abs(expected).max()))
    assert expected.std(axis=0).max() > 1e-4


def test_normalised_images_are_taken_as_they_are():
    found, reference = predictors("cnn")
    x = np.random.default_rng(0).normal(size=(3, 1, 12, 9)).astype(np.float32)
    np.testing.assert_allclose(found.logits(x), reference.logits(x), atol=1e-5)


def test_bfloat16_is_near_and_another():
    found, reference = predictors("cnn", "bfloat16")
    x = batch(CASES["cnn"][1], 16)
    np.testing.assert_allclose(found.logits(x), reference.logits(x), atol=0.05)


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("case", ["cnn", "mlp", "transformer"])
def test_frameworks_serve_in_bfloat16_too(name, case):
    definition, weights = about(case)
    found = engine.load_server(name).predictor(definition, weights, precision="bfloat16")
    exact = engine.load_server(name).predictor(definition, weights)
    x = batch(CASES[case][1], 5)
    logits, expected = found.logits(x), exact.logits(x)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - expected).max() < 0.05 * max(1, np.abs(expected).max())


def test_threads_get_their_own_answers():
    found, reference = predictors("cnn")
    x = batch(CASES["cnn"][1], 40)
    expected, wrong = reference.logits(x), []

    def ask(start):
        for row in [*range(start, 40, 4)] * 5:
            if not np.allclose(found.logits(x[row : row + 1])[0], expected[row], atol=1e-5):
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_torch_predicts_while_graphs_are_exported():
    definition, weights = about("cnn")
    reference, x = engine.load_server("torch").predictor(definition, weights), batch(CASES["cnn"][1], 3)
    expected = reference.logits(x)
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(predictors, "cnn")
        while not loading.done():
            time.sleep(0.001)
            np.testing.assert_allclose(reference.logits(x), expected, atol=1e-5)
    np.testing.assert_allclose(loading.result()[0].logits(x), expected, atol=2e-4)


def test_nobody_is_told_of_its_use():
    predictors("linear")
    assert sys.modules["openvino_telemetry"] is None


def test_a_network_that_it_cannot_run_is_refused(monkeypatch):
    monkeypatch.setattr(exporter, "MAIN", LACKED + exporter.MAIN)
    monkeypatch.setattr(graphs_module, "EXPORTER", exporter.Exporter())
    with pytest.raises(NotSupported, match="cannot run 'mlp': it lacks one of its operations"):
        predictors("mlp")


def test_without_its_package_the_engine_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(engine.OPTIONAL, "openvino", "no_such_package")
    assert not engine.is_installed("openvino")
    with pytest.raises(NotInstalled, match=r"pip install 'tandem\[openvino\]'"):
        engine.load_server("openvino")
    assert engine.is_installed("torch")
