"""Registered models in formats that other programs run."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse

from app.bodies import body
from app.deps import Uses
from app.openapi import READING_A_BODY, json_body, problems
from app.routes.models import Name, Version
from app.schemas.exports import ExportBody
from models.exports import formats
from models.exports.formats import FORMATS
from workers import registry

router = APIRouter(prefix="/models", tags=["Models"])

FILE: dict[str, Any] = {
    "description": "The file. It was read back and compared with the model on batches of several sizes.",
    "headers": {
        "ETag": {
            "description": "The file's SHA-256.",
            "schema": {"type": "string"},
            "example": '"9f86d081884c7d65"',
        },
        "X-Tandem-Largest-Difference": {
            "description": "The largest difference between the file's outputs and the model's, as a share of the"
            " largest output.",
            "schema": {"type": "number"},
            "example": 3.1e-07,
        },
    },
    "content": {
        media_type: {"schema": {"type": "string", "format": "binary"}, "example": "<bytes of the file>"}
        for media_type in sorted({format.media_type for format in FORMATS.values()})
    },
}


@router.post(
    "/{name}/versions/{version}/export",
    response_class=FileResponse,
    responses=problems(404, 501, *READING_A_BODY, besides={200: FILE}),
    openapi_extra=json_body(ExportBody, **{name: {"format": name} for name in FORMATS}),
)
async def export_version(
    name: Name, version: Version, asked: Annotated[ExportBody, Depends(body(ExportBody))], uses: Uses
) -> FileResponse:
    """The model as one file for programs that know nothing of Tandem. It takes raw input: pixels from 0 to 255, rows
    in their own units, token ids; normalisation is inside, and so are the classes. The batch size is free.

    Making it takes seconds to minutes; asked for again, it is there at once.
    """
    format = formats.find(asked.format)
    found = await run_sync(registry.version, uses.database, name, version)
    export = await uses.exports.export(found, format)
    headers = {
        "ETag": f'"{export.about.sha256}"',
        "X-Tandem-Largest-Difference": f"{export.about.largest_difference:.3g}",
    }
    filename = f"{found.name}-{found.version}{format.suffix}"
    return FileResponse(export.path, headers=headers, media_type=format.media_type, filename=filename)
