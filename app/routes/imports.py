"""Models from elsewhere: checkpoints of the architectures that Tandem has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import strict_json
from app.bodies import parse
from app.deps import IdempotencyKey, Uses
from app.forms import FORM, files_of, path_of, receiving
from app.idempotency import Answer, Sent, once
from app.multipart import FilePart, Form
from app.openapi import READING_A_BODY, REFERENCE, Responses, problems
from app.schemas.imports import ImportForm
from app.schemas.models import ModelVersion
from app.services import Services
from models.catalog import parameter_count
from models.checkpoints import process
from models.checkpoints.importing import ImportOptions, imported
from models.checkpoints.tokenizers import tokenizer_json
from models.errors import CorruptArtifact, InvalidInput, TandemError, UnsupportedMedia
from models.weights import WeightsFile, write_weights
from workers import registry
from workers.idempotency import IdempotencyClaim, fingerprint
from workers.registry import ModelVersion as VersionRecord
from workers.reports import FinishedModel

router = APIRouter(prefix="/models", tags=["Models"])

PICKLES = frozenset({".pth", ".pt", ".bin"})
SAFETENSORS = ".safetensors"
TOKENIZERS = {".json": "tokenizer.json", ".txt": "vocab.txt"}
JSON_FIELDS = frozenset({"model", "classes", "columns", "preprocess"})
EXAMPLE = {
    "file": "<bytes of resnet50.pth>",
    "name": "imagenet-resnet50",
    "model": '{"architecture": "resnet50"}',
    "preprocess": '{"size": [224, 224]}',
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file", "name"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "A `.safetensors`, or a `.pth` (`.pt`, `.bin`) of `torch.save` that holds a"
                            " state_dict.",
                        },
                        "tokenizer": {
                            "type": "string",
                            "format": "binary",
                            "description": "For texts: the checkpoint's `tokenizer.json` or `vocab.txt`.",
                        },
                        **{
                            field: {"$ref": REFERENCE.format(model="ImportForm") + f"/properties/{field}"}
                            for field in ImportForm.model_fields
                        },
                    },
                    "additionalProperties": False,
                },
                "encoding": {field: {"contentType": "application/json"} for field in sorted(JSON_FIELDS)},
                "example": EXAMPLE,
            }
        },
    }
}
CREATED: Responses = {
    201: {
        "model": ModelVersion,
        "description": "The version.",
        "headers": {
            "Location": {
                "description": "Where the version is.",
                "schema": {"type": "string"},
                "example": "/models/imagenet-resnet50/versions/1",
            }
        },
    }
}


@router.post("", status_code=201, responses=problems(*READING_A_BODY, besides=CREATED), openapi_extra=BODY)
async def import_model(request: Request, key: IdempotencyKey, uses: Uses) -> Response:
    """Import a checkpoint as the next version of a model.

    A state_dict of torchvision's or transformers' network, or of a network of Tandem's, is taken under the names that
    it has. Nothing in the file is ever run. Both frameworks serve the version, and jobs can start from it.
    """
    folder = uses.settings.uploads_dir
    with receiving(request, folder, most_files=2, fields="the fields 'name' and 'model'") as form_reader:
        form = await form_reader.read(request)
        return await run_sync(_take_in, uses, key, form, limiter=uses.ingestion)


def _take_in(uses: Services, key: str | None, form: Form) -> Response:
    files = files_of(form, "file", "tokenizer")
    fields = parse(ImportForm, _as_json(form.fields))

    def create(claim: IdempotencyClaim | None) -> VersionRecord:
        registry.check_name(fields.name)
        options = ImportOptions(
            model=fields.model,
            task=fields.task,
            classes=fields.classes,
            columns=fields.columns,
            preprocess=fields.preprocess,
            tokenizer=None if "tokenizer" not in files else _tokenizer(files["tokenizer"]),
        )
        with _safetensors(files["file"]) as path:
            return _stored(uses, fields.name, imported(path, options), claim)

    parts = [hash for name, part in sorted(files.items()) for hash in (name, part.suffix, part.sha256)]
    sent = Sent(key, "POST /models", fingerprint(fields.model_dump_json(), *parts))
    return once(uses.database, sent, create, lambda id: registry.resolve(uses.database, id), _created)


def _as_json(fields: dict[str, str]) -> bytes:
    """The form as one JSON object."""
    return json.dumps({name: _value(name, text) for name, text in fields.items()}).encode()


def _value(name: str, text: str) -> object:
    if name not in JSON_FIELDS:
        return text
    try:
        value = strict_json.loads(text.encode())
        strict_json.refuse_duplicates(text.encode())
    except TandemError as error:
        example = EXAMPLE.get(name, '["cat", "dog"]')
        raise InvalidInput(
            f"{name!r} must be JSON, for example {example}. {error.detail}",
            pointer=f"/{name}{error.pointer or ''}",
            code="invalid_json",
        ) from None
    return value


@contextmanager
def _safetensors(part: FilePart) -> Iterator[Path]:
    """The file in a format that can do nothing; what torch pickled is read by a process of its own."""
    if part.suffix == SAFETENSORS:
        yield path_of(part)
        return
    if part.suffix not in PICKLES:
        raise UnsupportedMedia(
            f"A checkpoint is a .safetensors, or a .pth of torch.save; this file ends in {part.suffix[:20]!r}.",
            pointer="/file",
        )
    converted = path_of(part).with_suffix(SAFETENSORS)
    try:
        process.convert(path_of(part), converted)
    except InvalidInput as error:
        raise InvalidInput(error.detail, pointer="/file", code=error.specific_code) from None
    try:
        yield converted
    finally:
        converted.unlink()


def _tokenizer(part: FilePart) -> str:
    if part.suffix not in TOKENIZERS:
        raise InvalidInput(
            f"A tokenizer is a tokenizer.json or a vocab.txt; this file ends in {part.suffix[:20]!r}.",
            pointer="/tokenizer",
        )
    try:
        return tokenizer_json({TOKENIZERS[part.suffix]: path_of(part)})
    except CorruptArtifact as error:
        raise InvalidInput(error.detail, pointer="/tokenizer", code="unreadable_tokenizer") from None


def _stored(uses: Services, name: str, file: WeightsFile, claim: IdempotencyClaim | None) -> VersionRecord:
    card = file.card
    with uses.store.scratch(SAFETENSORS) as path:
        write_weights(file, path)
        artifact = uses.store.adopt(path)
    model = FinishedModel(
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        parameters=parameter_count(card.model, card.signature),
        signature=card.signature,
        classes=card.classes,
        metrics={},
    )
    return registry.add_imported(uses.database, name, card.model, model, idempotency=claim)


def _created(record: VersionRecord) -> Answer:
    address = f"/models/{record.name}/versions/{record.version}"
    return Answer(ModelVersion.of(record).model_dump_json(), address)
