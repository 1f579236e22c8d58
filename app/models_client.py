"""The part of the Python client that is about registered models."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from app.connection import UPLOAD_TIMEOUT, Connection, at, given
from app.replies import Deleted, Engines, Export, Model, ModelVersion

EXPORT_TIMEOUT = httpx.Timeout(900.0, connect=5.0)
MEASURE_TIMEOUT = httpx.Timeout(600.0, connect=5.0)


class Models(Connection):
    """Versions, their aliases, weights and exports, and how they are served."""

    def models(self, *, limit: int | None = None) -> Iterator[Model]:
        """Registered models by name, each with its versions."""
        return self._pages("/models", Model, limit, {})

    def model(self, name: str) -> Model:
        return Model.model_validate(self._json("GET", at("models", name)))

    def model_version(self, name: str, version: int) -> ModelVersion:
        return ModelVersion.model_validate(self._json("GET", at("models", name, "versions", version)))

    def import_model(
        self,
        file: Path,
        *,
        name: str,
        model: Mapping[str, Any] | None = None,
        task: str | None = None,
        classes: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        preprocess: Mapping[str, Any] | None = None,
        tokenizer: Path | None = None,
    ) -> ModelVersion:
        """Import a `.safetensors` or `.pth` checkpoint as the next version of `name`; it is streamed.

        `model` is the architecture with its options, as in a job; a file that Tandem wrote needs none. `tokenizer` is
        the tokenizer.json or vocab.txt of a network for texts.
        """
        parts = given(model=model, classes=classes, columns=columns, preprocess=preprocess)
        form = {"name": name} | given(task=task) | {key: json.dumps(value) for key, value in parts.items()}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        with ExitStack() as opened:
            paths = given(file=file, tokenizer=tokenizer)
            files = {part: (path.name, opened.enter_context(path.open("rb"))) for part, path in paths.items()}
            answer = self._json(
                "POST", "/models", data=form, files=files, headers=headers, timeout=UPLOAD_TIMEOUT
            )
        return ModelVersion.model_validate(answer)

    def delete_model(self, name: str) -> Deleted:
        """Delete a model: all its versions with their aliases and weights."""
        return Deleted.model_validate(self._json("DELETE", at("models", name)))

    def delete_model_version(self, name: str, version: int) -> Deleted:
        """Delete a version with the aliases that mean it, and its weights."""
        return Deleted.model_validate(self._json("DELETE", at("models", name, "versions", version)))

    def engines(self, name: str, version: int) -> Engines:
        """Which engine `auto` takes for a version, and the evidence; what is not known yet is measured now, in some
        seconds."""
        url = at("models", name, "versions", version, "engines")
        return Engines.model_validate(self._json("GET", url, timeout=MEASURE_TIMEOUT))

    def set_serving(self, name: str, serving: Mapping[str, Any]) -> Model:
        """Choose when a model is loaded (`load`: on_demand, at_start or pinned), and its bounds (`max_batch_rows`,
        `max_waiting_predictions`; None for the server's). What is left out stays as it is."""
        return Model.model_validate(self._json("PATCH", at("models", name), json={"serving": dict(serving)}))

    def set_precision(self, name: str, version: int, precision: str) -> ModelVersion:
        """Choose what a version's predictions are computed in: float32, or bfloat16, which is compared on the version's
        validation split first and refused where too few labels stay the same."""
        body = {"serving": {"precision": precision}}
        url = at("models", name, "versions", version)
        return ModelVersion.model_validate(self._json("PATCH", url, json=body, timeout=MEASURE_TIMEOUT))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._answer("PUT", at("models", name, "aliases", alias), json={"version": version})

    def delete_alias(self, name: str, alias: str) -> None:
        self._answer("DELETE", at("models", name, "aliases", alias))

    def download_weights(self, name: str, version: int, file: Path) -> Path:
        """Write the version's safetensors file (torch `state_dict` names) to `file`, checked by its hash."""
        return self._save(at("models", name, "versions", version, "weights"), file)[0]

    def export_model(self, name: str, version: int, file: Path, *, format: str) -> Export:
        """Write the version to `file`, checked by its hash. `format`: onnx, stablehlo, torch-export or transformers.

        The server compares what it sends with the model; making it can take minutes.
        """
        url = at("models", name, "versions", version, "export")
        path, headers = self._save(url, file, method="POST", json={"format": format}, timeout=EXPORT_TIMEOUT)
        return Export(path, float(headers["X-Tandem-Largest-Difference"]))
