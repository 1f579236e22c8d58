"""Checkpoints from elsewhere over HTTP, from the client and from the command line."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from app.cli import main
from app.client import Tandem, TandemAPIError
from models import tensor_files
from models.catalog import architectures
from models.framework import FRAMEWORKS
from models.preprocessing import ImagePreprocessing, TextPreprocessing
from models.weights import WeightsFile, write_weights
from tests.app.serving import Running, assert_problem, running, settings_in
from tests.models.exportable import CLASSES, SENTENCES, exportable
from workers.identifiers import new_id

SMALL_CNN = {"architecture": "cnn", "width": 4, "stages": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(settings_in(tmp_path_factory.mktemp("tandem"), max_upload_bytes=200_000_000)) as server:
        yield server


@pytest.fixture
def tandem(server: Running) -> Iterator[Tandem]:
    with Tandem(str(server.client.base_url)) as tandem:
        yield tandem


def left_behind(server: Running) -> list[Path]:
    """Files that are there besides those of registered models."""
    settings = server.services.settings
    folders = (settings.uploads_dir, settings.artifacts_dir / "scratch")
    return [path for folder in folders for path in folder.iterdir()]


def said(file: WeightsFile, folder: Path) -> dict[str, Any]:
    """What the client has to say of a model's plain weights."""
    card, about = file.card, file.card.preprocessing
    found: dict[str, Any] = {"model": card.model.model_dump(mode="json"), "classes": card.classes}
    if isinstance(about, TextPreprocessing):
        (folder / "tokenizer.json").write_text(about.tokenizer)
        return found | {"tokenizer": folder / "tokenizer.json"}
    if isinstance(about, ImagePreprocessing):
        size = {"size": [about.height, about.width], "mean": about.mean, "std": about.std}
        return found | {"preprocess": size}
    return found | {"columns": about.columns, "task": card.signature.task}


def saved(tensors: dict[str, np.ndarray], path: Path) -> Path:
    """As a user of torch would have saved them."""
    torch.save({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, path)
    return path


@pytest.mark.parametrize("name", architectures())
def test_every_architecture_comes_back_bit_for_bit(
    name: str, tandem: Tandem, server: Running, tmp_path: Path
) -> None:
    file = exportable(name)
    plain = tmp_path / "plain.safetensors"
    tensor_files.write(file.weights, plain, {})
    version = tandem.import_model(plain, name=f"came-{name}", **said(file, tmp_path))
    assert (version.architecture, version.framework, version.classes) == (name, None, CLASSES)
    back = load_file(tandem.download_weights(version.name, version.version, tmp_path / "back.safetensors"))
    assert back.keys() == file.weights.keys()
    for tensor, array in file.weights.items():
        assert back[tensor].dtype == array.dtype
        assert back[tensor].shape == array.shape
        assert back[tensor].tobytes() == array.tobytes(), tensor
    again = tandem.import_model(tmp_path / "back.safetensors", name=f"again-{name}")
    assert again.sha256 == version.sha256
    assert left_behind(server) == []


def test_torchvisions_state_dict_comes_and_goes_unmodified(tandem: Tandem, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    version = tandem.import_model(
        tmp_path / "resnet18.pth",
        name="from-torchvision",
        model={"architecture": "resnet18"},
        preprocess={"size": [64, 64], "resize": "stretch"},
    )
    file = tandem.download_weights(version.name, version.version, tmp_path / "back.safetensors")
    other = torchvision.models.resnet18(num_classes=3)
    other.load_state_dict(load_torch_file(file))
    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        normalised = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(2, 0, 1)[None]
        expected = network.eval()(normalised)[0].numpy()
    answer = tandem.predict(version.name, [pixels], engine="torch", returns=["logits"])
    np.testing.assert_allclose(answer.predictions[0].logits, expected, atol=1e-4)
    assert answer.model.framework is None


def test_transformers_checkpoint_comes_with_its_tokenizer_and_goes_to_from_pretrained(
    tandem: Tandem, tmp_path: Path
) -> None:
    file = exportable("distilbert")
    options = file.card.model.model_dump()
    config = DistilBertConfig(
        vocab_size=file.card.signature.input.vocabulary,
        max_position_embeddings=options["positions"],
        n_layers=options["layers"],
        n_heads=options["heads"],
        dim=options["hidden"],
        hidden_dim=options["mlp"],
        num_labels=3,
        pad_token_id=0,
    )
    theirs = DistilBertForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    version = tandem.import_model(
        tmp_path / "theirs" / "model.safetensors", name="from-transformers", **said(file, tmp_path)
    )
    ours = tmp_path / "ours"
    ours.mkdir()
    config.save_pretrained(ours)
    tandem.download_weights(version.name, version.version, ours / "model.safetensors")
    back = DistilBertForSequenceClassification.from_pretrained(ours).eval()
    for key, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key

    about = file.card.preprocessing
    for engine in FRAMEWORKS:
        answer = tandem.predict(version.name, SENTENCES, engine=engine, returns=["logits", "labels"])
        for text, prediction in zip(SENTENCES, answer.predictions, strict=True):
            (ids,) = about.encoder.ids([text])
            with torch.inference_mode():
                expected = theirs(torch.tensor([ids])).logits[0].numpy()
            np.testing.assert_allclose(prediction.logits, expected, atol=1e-5)
            assert prediction.label == CLASSES[int(expected.argmax())]


def test_a_pickle_that_would_run_a_program_runs_nothing(server: Running, tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (witness,))

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    files = {"file": ("evil.pth", (tmp_path / "evil.pth").read_bytes())}
    answer = server.client.post("/models", data={"name": "evil", "model": json.dumps(SMALL_CNN)}, files=files)
    assert_problem(answer, 422, "/file", "more than tensors", "state_dict")
    assert not witness.exists()
    assert left_behind(server) == []


def test_one_key_imports_once(server: Running, tmp_path: Path) -> None:
    file = exportable("cnn")
    write_weights(file, tmp_path / "cnn.safetensors")
    content = (tmp_path / "cnn.safetensors").read_bytes()

    def send(content: bytes, name: str = "once") -> httpx.Response:
        return server.client.post(
            "/models",
            data={"name": name},
            files={"file": ("cnn.safetensors", content)},
            headers={"Idempotency-Key": "import-once"},
        )

    first, second = send(content), send(content)
    assert first.status_code == second.status_code == 201
    assert first.headers["Location"] == "/models/once/versions/1"
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.json() == second.json()
    assert send(content, name="other").status_code == 422
    assert len(server.client.get("/models/once").json()["versions"]) == 1


def test_imports_at_the_same_moment_get_versions_of_their_own(server: Running, tmp_path: Path) -> None:
    write_weights(exportable("cnn"), tmp_path / "cnn.safetensors")
    found = []

    def send() -> None:
        with Tandem(str(server.client.base_url)) as tandem:
            found.append(tandem.import_model(tmp_path / "cnn.safetensors", name="crowd").version)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [1, 2, 3, 4]


def test_an_imported_model_is_shown_served_aliased_and_deleted(
    server: Running, tandem: Tandem, tmp_path: Path
) -> None:
    write_weights(exportable("cnn"), tmp_path / "cnn.safetensors")
    tandem.import_model(tmp_path / "cnn.safetensors", name="shown")
    (version,) = tandem.model("shown").versions
    assert [version.job, version.dataset, version.framework, version.metrics] == [None, None, None, {}]
    assert version.parameters > 0
    tandem.set_alias("shown", "champion", 1)
    answers = [
        tandem.predict("shown@champion", [np.zeros((9, 7), np.uint8)], engine=engine, returns=["logits"])
        for engine in (*FRAMEWORKS, "auto")
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer.predictions[0].logits, answers[0].predictions[0].logits, atol=1e-5)
    assert server.client.delete("/models/shown").status_code == 200
    assert server.client.get("/models/shown").status_code == 404


def test_a_job_starts_from_an_imported_model(server: Running, tandem: Tandem, tmp_path: Path) -> None:
    write_weights(exportable("cnn"), tmp_path / "cnn.safetensors")
    tandem.import_model(tmp_path / "cnn.safetensors", name="start")
    job = tandem.create_job(
        {
            "framework": "jax",
            "dataset": "digits",
            "model": SMALL_CNN,
            "training": {"epochs": 1},
            "init": {"from": {"model": "start"}},
        }
    )
    assert job.spec["init"] == {"from": {"model": "start@1"}}


def test_the_command_line_imports_a_checkpoint_with_its_classes(server: Running, tmp_path: Path) -> None:
    path = saved(exportable("cnn").weights, tmp_path / "cnn.pt")
    (tmp_path / "classes.txt").write_text("cat\ndog\nemu\n")
    command = ["models", "import", str(path), "--name", "typed", "--url", str(server.client.base_url)]
    command += ["--classes", str(tmp_path / "classes.txt"), "--preprocess", '{"size": [32, 32]}']
    result = CliRunner().invoke(main, [*command, "--model", json.dumps(SMALL_CNN)])
    assert result.exit_code == 0, result.output
    assert "\ntyped@1 cnn, " in f"\n{result.output}"
    assert server.client.get("/models/typed").json()["versions"][0]["classes"] == list(CLASSES)
    wrong = CliRunner().invoke(main, [*command, "--model", "{"])
    assert wrong.exit_code == 2
    assert "not JSON" in wrong.output


@pytest.mark.parametrize(
    ("fields", "suffix", "status", "pointer", "hint"),
    [
        ({}, ".safetensors", 422, "/model", "does not say what network"),
        ({"model": "{"}, ".safetensors", 422, "/model", "must be JSON"),
        ({"model": '{"architecture": "resnet81"}'}, ".safetensors", 422, "/model/architecture", "resnet18"),
        ({"model": '{"architecture": "cnn", "widht": 4}'}, ".safetensors", 422, "/model/widht", "'width'"),
        ({"model": '{"architecture": "cnn", "width": NaN}'}, ".safetensors", 422, "/model/width", "JSON"),
        ({"model": '{"architecture": "mlp"}', "task": "regression"}, ".pth", 422, "/task", "regression"),
        ({"classes": '["a", "a", "b"]'}, ".safetensors", 422, "/classes", "twice"),
        ({"classes": '["a"]'}, ".safetensors", 422, "/classes", "at least 2"),
        ({"name": "Not A Name"}, ".safetensors", 422, "/name", "pattern"),
        ({"name": new_id("job")}, ".safetensors", 422, "/name", "choose another name"),
        ({"preprocess": '{"size": [0, 8]}'}, ".safetensors", 422, "/preprocess/size/0", "greater"),
        ({"colour": "red"}, ".safetensors", 422, "/colour", "Unknown field"),
        ({"model": json.dumps(SMALL_CNN)}, ".h5", 415, "/file", ".pth of torch.save"),
        ({"model": json.dumps(SMALL_CNN)}, ".safetensors", 422, "/preprocess/size", "how large"),
        ({"model": json.dumps(SMALL_CNN)}, ".pth", 422, "/file", "damaged"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(
    fields: dict[str, str], suffix: str, status: int, pointer: str, hint: str, server: Running, tmp_path: Path
) -> None:
    path = tmp_path / "plain.safetensors"
    tensor_files.write(exportable("cnn").weights, path, {})
    files = {"file": (f"x{suffix}", path.read_bytes())}
    answer = server.client.post("/models", data={"name": "refused", **fields}, files=files)
    assert_problem(answer, status, pointer, hint)
    assert server.client.get("/models/refused").status_code == 404
    assert left_behind(server) == []


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [("tokenizer.json", b"{}", "cannot be read"), ("words.csv", b"a", "ends in '.csv'")],
)
def test_a_file_that_is_no_tokenizer_is_refused(
    name: str, content: bytes, hint: str, server: Running, tmp_path: Path
) -> None:
    file = exportable("bilstm")
    tensor_files.write(file.weights, tmp_path / "plain.safetensors", {})
    model = file.card.model.model_dump_json()
    files = {"file": ("x.safetensors", (tmp_path / "plain.safetensors").read_bytes())}
    answer = server.client.post(
        "/models", data={"name": "mute", "model": model}, files=files | {"tokenizer": (name, content)}
    )
    assert_problem(answer, 422, "/tokenizer", hint)
    missing = server.client.post("/models", data={"name": "mute", "model": model}, files=files)
    assert_problem(missing, 422, "/tokenizer", "tokenizer.json or vocab.txt")


def test_files_in_other_parts_and_no_file_are_refused(server: Running) -> None:
    data = {"name": "lost", "model": json.dumps(SMALL_CNN)}
    answer = server.client.post("/models", data=data, files={"weights": ("x.pth", b"1")})
    assert_problem(answer, 422, "/weights", "'file' or 'tokenizer'")
    answer = server.client.post("/models", data=data, files={"tokenizer": ("x.json", b"1")})
    assert_problem(answer, 422, "/file", "'file'")
    assert_problem(server.client.post("/models", json=data), 415, "/headers/content-type", "multipart")


def test_the_client_names_what_is_wrong(tandem: Tandem, tmp_path: Path) -> None:
    tensor_files.write(exportable("cnn").weights, tmp_path / "plain.safetensors", {})
    with pytest.raises(TandemAPIError, match="how large the images are") as caught:
        tandem.import_model(tmp_path / "plain.safetensors", name="x", model=SMALL_CNN)
    assert caught.value.pointer == "/preprocess/size"
