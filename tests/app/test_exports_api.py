"""Exports over HTTP, from the client and from the command line; each is made in a process of its own."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from app.cli import main
from app.client import Tandem, TandemAPIError
from app.exports.cache import ExportCache
from app.exports.process import ExportProcesses
from app.exports.service import ExportService
from models.errors import CorruptArtifact, ExportFailed, Unavailable
from models.exports.exporting import Exported
from models.exports.formats import FORMATS
from tests.app.serving import (
    Registered,
    Running,
    assert_problem,
    linear_logits,
    registered,
    running,
    settings_in,
)
from workers import registry

Register = Callable[..., Registered]
ABOUT = Exported(hashlib.sha256(b"made").hexdigest(), 4, 0.0)


@pytest.fixture(scope="module")
def exported(server: Running, tmp_path_factory: pytest.TempPathFactory) -> tuple[Registered, Path, float]:
    """A model as ONNX, fetched by the client."""
    one = registered(server.services, name="exported")
    with Tandem(str(server.client.base_url)) as tandem:
        file = tmp_path_factory.mktemp("exported") / "one.onnx"
        found = tandem.export_model("exported", 1, file, format="onnx")
    return one, found.file, found.largest_difference


def test_an_exported_file_computes_what_the_model_computes(exported: tuple[Registered, Path, float]) -> None:
    import onnxruntime

    one, file, difference = exported
    x = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    (logits,) = onnxruntime.InferenceSession(file).run(["logits"], {"image": x})
    np.testing.assert_allclose(logits, linear_logits(one.file, x), rtol=1e-4, atol=1e-5)
    assert 0 <= difference < 1e-5
    assert list(file.parent.iterdir()) == [file]


def test_asked_for_again_it_is_there_at_once_with_its_hash(
    client: httpx.Client, server: Running, exported: tuple[Registered, Path, float]
) -> None:
    began = time.monotonic()
    answer = client.post("/models/exported/versions/1/export", json={"format": "onnx"})
    assert time.monotonic() - began < 1.0  # made anew it takes several seconds
    assert answer.content == exported[1].read_bytes()
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["content-disposition"] == 'attachment; filename="exported-1.onnx"'
    assert float(answer.headers["x-tandem-largest-difference"]) == exported[2]
    kept = list((server.services.settings.cache_dir / "exports").iterdir())
    assert len(kept) == 2  # the file and what is known of it; nothing unfinished


def test_an_export_from_the_command_line_tells_how_well_it_agrees(
    server: Running, exported: tuple[Registered, Path, float], tmp_path: Path
) -> None:
    url, output = str(server.client.base_url), str(tmp_path / "from-cli.onnx")
    arguments = ["models", "export", "exported", "1", "--format", "onnx", "--output", output, "--url", url]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    assert "largest difference" in shown.output
    assert Path(output).read_bytes() == exported[1].read_bytes()


@pytest.mark.parametrize(
    ("path", "body", "status", "pointer", "hint"),
    [
        ("exported/versions/1", {"format": "onx"}, 422, "/format", "Did you mean 'onnx'?"),
        ("exported/versions/1", {"format": 7}, 422, "/format", "valid string"),
        ("exported/versions/1", {}, 422, "/format", "required"),
        ("exported/versions/1", {"fromat": "onnx"}, 422, "/fromat", "Did you mean 'format'?"),
        ("exported/versions/9", {"format": "onnx"}, 404, None, "no version 9"),
        ("nobody/versions/1", {"format": "onnx"}, 404, None, "nobody"),
    ],
)
def test_what_cannot_be_exported_is_explained(
    client: httpx.Client,
    exported: tuple[Registered, Path, float],
    path: str,
    body: dict[str, object],
    status: int,
    pointer: str | None,
    hint: str,
) -> None:
    assert_problem(client.post(f"/models/{path}/export", json=body), status, pointer, hint)


def test_the_client_leaves_nothing_behind_when_the_server_refuses(server: Running, tmp_path: Path) -> None:
    with Tandem(str(server.client.base_url)) as tandem, pytest.raises(TandemAPIError, match="nobody"):
        tandem.export_model("nobody", 1, tmp_path / "file.onnx", format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_takes_too_long_is_killed_and_leaves_nothing(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, export_timeout_s=0.3)) as server:
        registered(server.services, name="slow")
        answer = server.client.post("/models/slow/versions/1/export", json={"format": "onnx"})
        assert_problem(answer, 503, None, "TANDEM_EXPORT_TIMEOUT_S")
        assert list((tmp_path / "cache/exports").iterdir()) == []
        assert exporters(tmp_path) == []


def test_a_server_that_stops_takes_its_exports_with_it(tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:
        registered(server.services, name="abandoned")

        def ask() -> None:
            answer = server.client.post("/models/abandoned/versions/1/export", json={"format": "onnx"})
            assert_problem(answer, 503, None, "The server is stopping.")

        asking = threading.Thread(target=ask)
        asking.start()
        deadline = time.monotonic() + 20
        while not exporters(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(exporters(tmp_path)) == 1
        server.services.exports.close()
        asking.join(20)
    assert exporters(tmp_path) == []
    assert list((tmp_path / "cache/exports").iterdir()) == []


def exporters(folder: Path) -> list[int]:
    """The processes that export something of this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"models.exports" in command and os.fsencode(folder) in command:
            found.append(int(process.name))
    return found


def test_a_process_that_dies_is_no_file(tmp_path: Path) -> None:
    processes = ExportProcesses(60)
    with pytest.raises(ExportFailed, match="exited with status 2"):
        processes.run(tmp_path, replace(FORMATS["onnx"], name="no-such"), tmp_path / "out")
    with pytest.raises(CorruptArtifact, match=r"nothing\.safetensors"):
        processes.run(tmp_path / "nothing.safetensors", FORMATS["stablehlo"], tmp_path / "out")


def test_more_exports_than_can_be_made_are_refused(server: Running, register: Register) -> None:
    one = register(name="many", seed=5)
    version = registry.version(server.services.database, one.name, one.version)
    service = ExportService(server.services.settings, server.services.store, most=1)

    async def crowd() -> None:
        first = asyncio.create_task(service.export(version, FORMATS["stablehlo"]))
        await asyncio.sleep(0.2)
        again = asyncio.create_task(service.export(version, FORMATS["stablehlo"]))  # waits for the same file
        with pytest.raises(Unavailable, match="1 exports are being made"):
            await service.export(version, FORMATS["onnx"])
        assert await first == await again

    asyncio.run(crowd())
    service.close()


def put(cache: ExportCache, sha256: str, content: bytes = b"made", age_s: float = 0) -> Path:
    with cache.unfinished() as path:
        path.write_bytes(content)
        kept = cache.keep(sha256, FORMATS["onnx"], path, ABOUT).path
    os.utime(kept, (time.time() - age_s,) * 2)
    return kept


def test_a_kept_file_is_found_until_it_is_damaged(tmp_path: Path) -> None:
    cache = ExportCache(tmp_path, 10)
    assert cache.find("one", FORMATS["onnx"]) is None
    kept = put(cache, "one")
    found = cache.find("one", FORMATS["onnx"])
    assert found is not None
    assert (found.path, found.about) == (kept, ABOUT)
    assert cache.find("one", FORMATS["stablehlo"]) is None
    kept.write_bytes(b"maid")
    assert cache.find("one", FORMATS["onnx"]) is None


def test_the_longest_unused_make_room_but_none_that_may_be_being_sent(tmp_path: Path) -> None:
    cache = ExportCache(tmp_path, 10)
    ages = {"first": 500, "second": 300, "third": 400}
    kept = {name: put(cache, name, age_s=age_s) for name, age_s in ages.items()}
    assert [name for name, path in kept.items() if path.exists()] == ["second", "third"]
    put(cache, "fourth")
    put(cache, "fifth")
    assert len(list(tmp_path.iterdir())) == 4  # two files of 4 bytes, and what is known of each
    put(cache, "sixth")
    assert cache.find("fifth", FORMATS["onnx"]) is not None


def test_what_a_killed_server_left_is_swept(tmp_path: Path) -> None:
    for name, age_s in (("old.part", 10**6), ("new.part", 5)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    ExportCache(tmp_path, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["new.part"]
