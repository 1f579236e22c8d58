"""The Open Inference Protocol, version 2."""

from importlib.metadata import version as installed
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Request, Response

from app.bodies import off_the_loop_if_large, parse
from app.deps import Uses
from app.inference_protocol import infer as protocol
from app.inference_protocol.infer import LENGTH_HEADER
from app.openapi import REFERENCE, problems
from app.prediction.fast_path import FAILED, INFER_ROUTES
from app.prediction.statistics import VersionStatistics
from app.routes import health
from app.routes.predictions import response
from app.schemas.inference_protocol import (
    Done,
    IndexBody,
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    Live,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ModelStatistics,
    Ready,
    RepositoryBody,
    ServerMetadata,
    Statistics,
)
from app.services import Services
from models.errors import NotSupported, Unavailable
from workers import registry
from workers.registry import ModelVersion

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

ModelName = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9._@-]{1,160}$",
        description="`name`, `name@alias` or a job's id.",
        examples=["digits-cnn"],
    ),
]
VersionName = Annotated[str, Path(description="A version's number.", examples=["3"])]


@router.get("", responses=problems())
def server_metadata() -> ServerMetadata:
    """The server's name, version and extensions."""
    return ServerMetadata(name="tandem", version=installed("tandem"))


@router.get("/health/live", responses=problems())
def server_live() -> Live:
    """Whether the process lives."""
    return Live()


@router.get("/health/ready", responses=problems())
def server_ready(uses: Uses) -> Ready:
    """Whether what predictions need is there: database, artifact store, the models that are loaded at the start. 503
    says which is not."""
    health.check(uses, "database", "artifacts", "models")
    return Ready()


@router.get("/models/stats", responses=problems())
async def all_statistics(uses: Uses) -> Statistics:
    """Counts and times of every version."""
    found = await run_sync(registry.every, uses.database)
    return await _statistics(uses, *(version for model in found for version in model.versions))


@router.get("/models/{model}", responses=problems(404))
def model_metadata(model: ModelName, uses: Uses) -> ModelMetadata:
    """A model's versions, inputs and outputs."""
    found = registry.resolve(uses.database, model)
    return ModelMetadata.of(registry.get(uses.database, found.name), found)


@router.get("/models/{model}/versions/{version}", responses=problems(404))
def version_metadata(model: ModelName, version: VersionName, uses: Uses) -> ModelMetadata:
    """A version's inputs and outputs."""
    return model_metadata(protocol.reference(model, version), uses)


@router.get("/models/{model}/ready", responses=problems(404))
def model_ready(model: ModelName, uses: Uses) -> ModelReady:
    """Whether the model can be asked. It need not be in memory: it is loaded for the first request."""
    found = registry.resolve(uses.database, model)
    if not found.enabled:
        raise Unavailable(f"Model {found.name!r} was unloaded.", code="model_unloaded")
    return ModelReady(name=found.name)


@router.get("/models/{model}/versions/{version}/ready", responses=problems(404))
def version_ready(model: ModelName, version: VersionName, uses: Uses) -> ModelReady:
    """Whether the version can be asked."""
    return model_ready(protocol.reference(model, version), uses)


@router.get("/models/{model}/config", responses=problems(404))
def model_config(model: ModelName, uses: Uses) -> ModelConfig:
    """Triton's configuration of a model."""
    return ModelConfig.of(registry.resolve(uses.database, model), uses.settings.max_batch_items)


@router.get("/models/{model}/versions/{version}/config", responses=problems(404))
def version_config(model: ModelName, version: VersionName, uses: Uses) -> ModelConfig:
    """Triton's configuration of a version."""
    return model_config(protocol.reference(model, version), uses)


@router.get("/models/{model}/stats", responses=problems(404))
async def model_statistics(model: ModelName, uses: Uses) -> Statistics:
    """Counts and times of a model's versions."""
    found = await run_sync(registry.resolve, uses.database, model)
    versions = (await run_sync(registry.get, uses.database, found.name)).versions
    return await _statistics(uses, *(versions if model == found.name else (found,)))


@router.get("/models/{model}/versions/{version}/stats", responses=problems(404))
async def version_statistics(model: ModelName, version: VersionName, uses: Uses) -> Statistics:
    """Counts and times of a version."""
    return await _statistics(
        uses, await run_sync(registry.resolve, uses.database, protocol.reference(model, version))
    )


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON, or JSON with binary tensors behind it and its length in the header"
        " Inference-Header-Content-Length; gzip and deflate are taken.",
        "content": {
            "application/json": {
                "schema": {"$ref": REFERENCE.format(model=InferenceRequest.__name__)},
                "examples": {
                    "row": {
                        "value": {
                            "inputs": [
                                {
                                    "name": "input",
                                    "shape": [1, 4],
                                    "datatype": "FP32",
                                    "data": [5.1, 3.5, 1.4, 0.2],
                                }
                            ],
                            "outputs": [{"name": "label"}],
                        }
                    }
                },
            },
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "<JSON><tensors>",
            },
        },
    }
}
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs, as JSON, or with binary tensors behind it.",
        "content": {
            "application/json": {
                "schema": {"$ref": REFERENCE.format(model=InferenceResponse.__name__)},
                "example": {
                    "model_name": "iris-mlp",
                    "model_version": "2",
                    "parameters": {"engine": "torch"},
                    "outputs": [{"name": "label", "datatype": "BYTES", "shape": [1], "data": ["setosa"]}],
                },
            },
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "<JSON><tensors>",
            },
        },
    }
}
INFERRING = problems(403, 404, 408, 413, 501, besides=ANSWER)


@router.post(INFER_ROUTES[0].removeprefix("/v2"), responses=INFERRING, openapi_extra=BODY)
async def infer(model: ModelName, request: Request, uses: Uses) -> Response:
    """Predict with a model: its `champion`, or the newest version."""
    return await _inferred(model, request, uses)


@router.post(INFER_ROUTES[1].removeprefix("/v2"), responses=INFERRING, openapi_extra=BODY)
async def infer_version(model: ModelName, version: VersionName, request: Request, uses: Uses) -> Response:
    """Predict with a version."""
    return await _inferred(protocol.reference(model, version), request, uses)


async def _inferred(reference: str, request: Request, uses: Services) -> Response:
    if FAILED in request.scope:
        raise request.scope.pop(FAILED).error
    settings = uses.settings
    encoding = request.headers.get("content-encoding", "")
    length = request.headers.get(LENGTH_HEADER)

    def query(body: bytes) -> protocol.InferQuery:
        plain = protocol.plain(body, encoding, settings.max_body_bytes)
        return protocol.query(reference, plain, length, settings.max_batch_items)

    body = await request.body()
    # What a small compressed body becomes may be large.
    asked = await (run_sync(query, body) if encoding else off_the_loop_if_large(query, body))
    return response(await uses.predictions.predict(asked, request.receive))


@router.post("/repository/index", responses=problems(403, 408, 413))
async def repository_index(request: Request, uses: Uses) -> list[IndexEntry]:
    """Every version of every model, and whether it can be asked. `{"ready": true}` leaves out those that cannot."""
    wanted = await _optional(request, IndexBody)
    models = await run_sync(registry.every, uses.database)
    return [
        IndexEntry(
            name=model.name,
            version=str(version.version),
            state="READY" if model.enabled else "UNAVAILABLE",
            reason="" if model.enabled else "unloaded",
        )
        for model in models
        for version in reversed(model.versions)
        if model.enabled or not wanted.ready
    ]


@router.post("/repository/models/{model}/load", responses=problems(403, 404, 408, 413, 501))
async def load_model(model: ModelName, request: Request, uses: Uses) -> Done:
    """Let a model answer from now on, and have it in memory. Answers once it is."""
    wanted = await _optional(request, RepositoryBody)
    if wanted.parameters:
        raise NotSupported(
            f"Loading takes no parameters here, not {next(iter(wanted.parameters))[:40]!r}: a model's files are in the"
            " registry. POST /models imports others.",
            pointer="/parameters",
        )
    await uses.predictions.load(model)
    return Done()


@router.post("/repository/models/{model}/unload", responses=problems(403, 404, 408, 413))
async def unload_model(model: ModelName, request: Request, uses: Uses) -> Done:
    """Let a model answer no more, in neither protocol, and free its memory. It stays registered."""
    await _optional(request, RepositoryBody)
    await uses.predictions.unload(model)
    return Done()


def _unsupported(request: Request) -> Response:
    raise NotSupported(
        f"{request.url.path[:80]!r} belongs to an extension that this server does not have; GET /v2 lists those it has."
    )


for path in (
    "/systemsharedmemory/{rest:path}",
    "/cudasharedmemory/{rest:path}",
    "/logging",
    "/trace/setting",
    "/models/{model}/trace/setting",
):
    router.add_api_route(path, _unsupported, methods=["GET", "POST"], include_in_schema=False)


async def _statistics(uses: Services, *versions: ModelVersion) -> Statistics:
    counts = [state.counts for state in (await uses.siblings.states()).values()]
    return Statistics(
        model_stats=tuple(
            ModelStatistics.of(one, VersionStatistics.of(counts, one.name, one.version)) for one in versions
        )
    )


async def _optional(request: Request, model: type[Any]) -> Any:
    """The body as this model; clients may leave it out."""
    body = await request.body()
    return parse(model, body) if body.strip() else model()
