"""Registered models: versions, aliases, weights."""

from pathlib import Path as FilePath
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import FileResponse, Response

from app.bodies import body
from app.deps import Paging, Uses
from app.downloads import Wanted, download, file_answers
from app.openapi import READING_A_BODY, json_body, problems
from app.schemas.models import AliasTarget, Deleted, Model, ModelChange, ModelVersion, VersionChange
from app.schemas.paging import Listed
from app.services import Services
from models.errors import CorruptArtifact, InvalidInput, NotFound
from workers import models_in_memory, registry

router = APIRouter(prefix="/models", tags=["Models"])

Name = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="A model's name.", examples=["digits-cnn"])
]
Alias = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="An alias of the model.", examples=["champion"])
]
Version = Annotated[int, Path(ge=1, lt=2**31, description="A version's number.", examples=[3])]
SAFETENSORS = "application/vnd.safetensors"


@router.get("", responses=problems())
def list_models(paging: Annotated[Paging, Query()], uses: Uses) -> Listed[Model]:
    """Models, the newest name first. `after` is a name."""
    page = registry.page(uses.database, **paging.model_dump())
    return Listed[Model].of(map(Model.of, page.data), (one.name for one in page.data), page.has_more)


@router.get("/{name}", responses=problems(404))
def get_model(name: Name, uses: Uses) -> Model:
    """One model with its versions and aliases."""
    return Model.of(registry.get(uses.database, name))


@router.patch(
    "/{name}",
    responses=problems(404, *READING_A_BODY),
    openapi_extra=json_body(
        ModelChange,
        pinned={"serving": {"load": "pinned"}},
        bounds={"serving": {"max_batch_rows": 8, "max_waiting_predictions": 64}},
    ),
)
def change_model(name: Name, change: Annotated[ModelChange, Depends(body(ModelChange))], uses: Uses) -> Model:
    """Choose when a model is loaded, and its bounds. All processes follow within a second."""
    found = registry.get(uses.database, name)
    serving = change.serving.applied(found.serving)
    if serving.load == "pinned":
        _refuse_beyond_memory(uses, found)
    return Model.of(registry.set_model_serving(uses.database, name, serving))


@router.delete("/{name}", responses=problems(403, 404))
def delete_model(name: Name, uses: Uses) -> Deleted:
    """Delete a model: all its versions with their aliases and weights. Their numbers are never used again."""
    return Deleted.of(name, registry.delete_model(uses.database, uses.store, name))


@router.get("/{name}/versions/{version}", responses=problems(404))
def get_version(name: Name, version: Version, uses: Uses) -> ModelVersion:
    """One version."""
    return ModelVersion.of(registry.version(uses.database, name, version))


@router.patch(
    "/{name}/versions/{version}",
    responses=problems(404, *READING_A_BODY),
    openapi_extra=json_body(VersionChange, bfloat16={"serving": {"precision": "bfloat16"}}),
)
async def change_version(
    name: Name, version: Version, change: Annotated[VersionChange, Depends(body(VersionChange))], uses: Uses
) -> ModelVersion:
    """Choose the precision that a version's predictions are computed in. A reduced one is compared with float32 on the
    version's validation split first, which may take a while, and taken on the engines that keep enough labels."""
    found = await run_sync(registry.version, uses.database, name, version)
    return ModelVersion.of(await uses.predictions.choice.set_precision(found, change.serving.precision))


@router.delete("/{name}/versions/{version}", responses=problems(403, 404))
def delete_version(name: Name, version: Version, uses: Uses) -> Deleted:
    """Delete a version with the aliases that mean it, and its weights."""
    return Deleted.of(name, registry.delete_version(uses.database, uses.store, name, version))


@router.put(
    "/{name}/aliases/{alias}",
    responses=problems(404, *READING_A_BODY),
    openapi_extra=json_body(AliasTarget, version={"version": 3}),
)
def set_alias(
    name: Name, alias: Alias, target: Annotated[AliasTarget, Depends(body(AliasTarget))], uses: Uses
) -> ModelVersion:
    """Let `name@alias` mean this version from now on. `champion` is what the name alone means."""
    return ModelVersion.of(registry.set_alias(uses.database, name, alias, target.version))


@router.delete("/{name}/aliases/{alias}", responses=problems(403, 404))
def delete_alias(name: Name, alias: Alias, uses: Uses) -> Deleted:
    """Forget an alias; the version stays."""
    registry.delete_alias(uses.database, name, alias)
    return Deleted(name=name, versions=(), aliases=(alias,))


@router.get(
    "/{name}/versions/{version}/weights",
    response_class=FileResponse,
    responses=problems(
        404,
        412,
        416,
        besides=file_answers(
            {SAFETENSORS: "A safetensors file; names and layouts are those of torch's `state_dict`."}
        ),
    ),
)
def get_weights(name: Name, version: Version, uses: Uses, wanted: Wanted) -> Response:
    """Download the weights. The ETag is the file's SHA-256; ranges can be asked for."""
    found = registry.version(uses.database, name, version)
    filename = f"{found.name}-{found.version}.safetensors"
    return download(_file(uses, found), found.sha256, wanted, SAFETENSORS, filename)


def _refuse_beyond_memory(uses: Services, model: registry.Model) -> None:
    """Raises InvalidInput when there is no room for another pinned model beside those that there are."""
    others = (one for one in models_in_memory.residents(uses.database) if one.name != model.name)
    taken = sum(one.size_bytes for one in others if one.model_serving.load == "pinned")
    if taken + model.champion.size_bytes > uses.settings.model_cache_bytes:
        raise InvalidInput(
            f"Pinned models take {taken} of the {uses.settings.model_cache_bytes} bytes for models in memory"
            f" (TANDEM_MODEL_CACHE_BYTES); this one has {model.champion.size_bytes}. Unpin another, or raise the"
            " limit.",
            pointer="/serving/load",
            code="no_room_to_pin",
        )


def _file(uses: Services, version: registry.ModelVersion) -> FilePath:
    try:
        return uses.store.path(version.sha256)
    except NotFound as error:
        raise CorruptArtifact(f"The weights of {version.name}@{version.version} are lost.") from error
