"""The Open Inference Protocol's bodies; names and shapes are the protocol's own."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.inference_protocol.tensors import Tensor, inputs_of, outputs_of
from app.prediction.statistics import Duration, VersionStatistics
from app.schemas.paging import Answer
from workers.registry import Model as ModelRecord
from workers.registry import ModelVersion

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)
PLATFORM = "tandem"
IMAGE: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}
LOGITS: dict[str, Any] = {"name": "logits", "datatype": "FP32", "shape": [-1, 10]}


def _counted(count: int) -> dict[str, int]:
    return {"count": count, "ns": 1000 * count}


PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
STATISTICS: dict[str, Any] = {
    "name": "digits-cnn",
    "version": "2",
    "last_inference": 1767605409000,
    "inference_count": 4,
    "execution_count": 1,
    "inference_stats": {
        **{part: _counted(4) for part in PARTS},
        **{part: _counted(0) for part in ("fail", "cache_hit", "cache_miss")},
    },
    "batch_stats": [
        {
            "batch_size": 4,
            "compute_input": {"count": 1, "ns": 0},
            "compute_infer": _counted(1),
            "compute_output": {"count": 1, "ns": 0},
        }
    ],
}


class Live(Answer):
    """The process lives."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"live": True}]})
    live: bool = True


class Ready(Answer):
    """Everything that predictions need answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ready": True}]})
    ready: bool = True


class ModelReady(Answer):
    """The model can be asked."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "digits-cnn", "ready": True}]})
    name: str
    ready: bool = True


class ServerMetadata(Answer):
    """Who answers, and which of Triton's extensions it knows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "tandem", "version": "0.1.0", "extensions": ["binary_tensor_data"]}]
        }
    )
    name: str
    version: str
    extensions: tuple[str, ...] = EXTENSIONS


class TensorMetadata(Answer):
    """A tensor; -1 is any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorMetadata":
        return cls(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)


class ModelMetadata(Answer):
    """What a model takes and gives. Of the inputs, the first is the usual one; see the configuration for those that may
    stand in its place."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "digits-cnn",
                    "versions": ["1", "2"],
                    "platform": PLATFORM,
                    "inputs": [IMAGE],
                    "outputs": [LOGITS],
                }
            ]
        }
    )
    name: str
    versions: tuple[str, ...]
    platform: str = PLATFORM
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]

    @classmethod
    def of(cls, model: ModelRecord, version: ModelVersion) -> "ModelMetadata":
        return cls(
            name=model.name,
            versions=tuple(str(one.version) for one in reversed(model.versions)),
            inputs=tuple(map(TensorMetadata.of, inputs_of(version.signature))),
            outputs=tuple(map(TensorMetadata.of, outputs_of(version.signature))),
        )


class InputConfig(Answer):
    """An input without its batch dimension."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = Field(description="Whether another input may stand in its place, or it may be missing.")


class OutputConfig(Answer):
    """An output without its batch dimension."""

    name: str
    data_type: str
    dims: tuple[int, ...]


class DynamicBatching(Answer):
    """Batches never wait to fill up."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0


class ModelConfig(Answer):
    """Triton's model configuration, as far as it means something here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "digits-cnn",
                    "platform": PLATFORM,
                    "backend": PLATFORM,
                    "max_batch_size": 1024,
                    "input": [
                        {"name": "image", "data_type": "TYPE_UINT8", "dims": [8, 8, 1], "optional": False}
                    ],
                    "output": [{"name": "logits", "data_type": "TYPE_FP32", "dims": [10]}],
                    "dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": 0},
                }
            ]
        }
    )
    name: str
    platform: str = PLATFORM
    backend: str = PLATFORM
    max_batch_size: int = Field(description="Inputs that one request may have.")
    input: tuple[InputConfig, ...]
    output: tuple[OutputConfig, ...]
    dynamic_batching: DynamicBatching = DynamicBatching()

    @classmethod
    def of(cls, version: ModelVersion, max_batch_size: int) -> "ModelConfig":
        return cls(
            name=version.name,
            max_batch_size=max_batch_size,
            input=tuple(
                InputConfig(
                    name=one.name, data_type=_type(one), dims=one.shape[1:] or (1,), optional=one.optional
                )
                for one in inputs_of(version.signature)
            ),
            output=tuple(
                OutputConfig(name=one.name, data_type=_type(one), dims=one.shape[1:] or (1,))
                for one in outputs_of(version.signature)
            ),
        )


def _type(tensor: Tensor) -> str:
    return "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"


class Done(Answer):
    """It is done."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class IndexEntry(Answer):
    """A version in the repository."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "digits-cnn", "version": "2", "state": "READY", "reason": ""}]
        }
    )
    name: str
    version: str
    state: str = Field(description="READY, or UNAVAILABLE when the model was unloaded.")
    reason: str = ""


class DurationStatistics(Answer):
    count: int
    ns: int

    @classmethod
    def of(cls, found: Duration) -> "DurationStatistics":
        return cls(count=found.count, ns=found.ns)


class InferStatistics(Answer):
    """How many requests, and their time in all by its parts."""

    success: DurationStatistics
    fail: DurationStatistics
    queue: DurationStatistics
    compute_input: DurationStatistics
    compute_infer: DurationStatistics
    compute_output: DurationStatistics
    cache_hit: DurationStatistics = DurationStatistics(count=0, ns=0)
    cache_miss: DurationStatistics = DurationStatistics(count=0, ns=0)


class BatchStatistics(Answer):
    """The batches of one size. Inputs are read and answers written request by request, outside of them."""

    batch_size: int
    compute_input: DurationStatistics
    compute_infer: DurationStatistics
    compute_output: DurationStatistics


class ModelStatistics(Answer):
    """What a version has done since the process started, on all engines."""

    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since 1970; 0 if there was none.")
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    batch_stats: tuple[BatchStatistics, ...]

    @classmethod
    def of(cls, version: ModelVersion, found: VersionStatistics) -> "ModelStatistics":
        return cls(
            name=version.name,
            version=str(version.version),
            last_inference=found.last_inference_ms,
            inference_count=found.inferences,
            execution_count=found.executions,
            inference_stats=InferStatistics(
                **{part: DurationStatistics.of(getattr(found, part)) for part in PARTS}
            ),
            batch_stats=tuple(
                BatchStatistics(
                    batch_size=rows,
                    compute_input=DurationStatistics(count=one.count, ns=0),
                    compute_infer=DurationStatistics.of(one),
                    compute_output=DurationStatistics(count=one.count, ns=0),
                )
                for rows, one in sorted(found.batches.items())
            ),
        )


class Statistics(Answer):
    """Triton's statistics extension."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model_stats": [STATISTICS]}]})
    model_stats: tuple[ModelStatistics, ...]


class TensorParameters(BaseModel):
    """Of an input or output."""

    model_config = ConfigDict(extra="allow")
    binary_data_size: int | None = Field(
        default=None, description="Bytes of this input that follow the JSON."
    )
    binary_data: bool | None = Field(default=None, description="Whether this output shall follow the JSON.")
    classification: int | None = Field(
        default=None, description="Return so many of the largest values as texts, value:index:label."
    )
    content_type: str | None = Field(default=None, description="`base64`: that is what the texts are.")


class RequestInput(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    parameters: TensorParameters | None = None
    data: list[Any] | None = Field(default=None, description="Row by row, nested or flat.")


class RequestOutput(BaseModel):
    name: str
    parameters: TensorParameters | None = None


class RequestParameters(BaseModel):
    """Others are ignored."""

    model_config = ConfigDict(extra="allow")
    engine: str | None = Field(
        default=None, description="`auto`, `torch`, `jax` or `openvino`: which one computes."
    )
    timeout: int | None = Field(default=None, description="Microseconds that the request may wait.")
    binary_data_output: bool | None = Field(default=None, description="Whether all outputs follow the JSON.")


class InferenceRequest(BaseModel):
    """What a model is asked. Images: `image` (UINT8 pixels or BYTES files) or `input` (FP32, normalised). Texts: `text`
    or `input_ids` with `attention_mask`. Tables: `input`, or a tensor for each column where they are typed."""

    id: str | None = None
    parameters: RequestParameters | None = None
    inputs: list[RequestInput] = Field(min_length=1)
    outputs: list[RequestOutput] | None = Field(default=None, description="All of them if left out.")


class ResponseOutput(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferenceResponse(BaseModel):
    """The outputs that were asked for."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[ResponseOutput]


class IndexBody(BaseModel):
    """What the repository's index shall list."""

    model_config = ConfigDict(strict=True)
    ready: bool = Field(default=False, description="Only what is READY.")


class RepositoryBody(BaseModel):
    """Parameters of a load or unload."""

    model_config = ConfigDict(strict=True)
    parameters: dict[str, Any] = Field(default_factory=dict)
