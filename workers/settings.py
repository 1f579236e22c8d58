"""Every setting of a Tandem process. Nothing else reads the environment."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

KIB = 2**10
MIB = 2**20
GIB = 2**30
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
SELF_FENCE_FRACTION = 0.7


class Settings(BaseSettings):
    """Read from `TANDEM_<NAME>` in the environment; an empty variable counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="TANDEM_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,  # it may be a key or a password
    )

    data_dir: Path = Field(
        default=Path("tandem-data"), description="Where everything that must last is kept."
    )
    database_url: str = Field(
        default="",
        description="SQLAlchemy's URL of an SQLite or PostgreSQL database; default: a file in data_dir.",
    )
    broker_url: str = "redis://127.0.0.1:6379/0"
    datasets_dir: Path | None = Field(
        default=None,
        description="A folder that already holds the built-in datasets' files; nothing is downloaded.",
    )
    pretrained_dir: Path | None = Field(
        default=None,
        description="A folder that already holds published checkpoints: torchvision's files, and a folder for each"
        " Hugging Face repository; nothing is downloaded.",
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("localhost", "127.0.0.1", "[::1]"),
        description="Host headers that are answered, comma-separated.",
    )
    api_key: SecretStr | None = Field(default=None, description="Required of clients when set.")
    allow_unauthenticated: bool = Field(
        default=False,
        description="Listen off loopback without a key, because something else keeps strangers out.",
    )
    url: str = Field(
        default="http://127.0.0.1:8000", description="The server that the tandem command talks to."
    )
    max_body_bytes: Bytes = 32 * MIB
    max_upload_bytes: Bytes = 4 * GIB
    max_batch_items: int = Field(default=1024, ge=1)
    body_grace_s: Seconds = Field(
        default=20.0, description="A request's body may take so long, and more for what its bytes need."
    )
    body_min_bytes_per_s: Bytes = Field(
        default=16 * KIB, description="A slower body is refused after its grace."
    )
    max_event_streams: int = Field(default=100, ge=0, description="Live streams of events at a time.")

    processes: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes of the API on its one port: several for models so small that the server is what takes"
        " the time, each with a copy of what it serves. With serving_device cuda each has a GPU of its own.",
    )
    hung_after_s: float = Field(
        default=60.0,
        ge=5,
        allow_inf_nan=False,
        description="One of several processes whose event loop stands still for so long is ended, and started again.",
    )
    serving_device: Literal["auto", "cpu", "cuda"] = "cpu"
    serving_threads: int = Field(
        default=2, ge=1, description="Predictions computed at a time, by each process."
    )
    max_waiting_predictions: int = Field(
        default=1024,
        ge=1,
        description="Inputs that may wait for one model; more are refused until some are done.",
    )
    measure_engines: bool = Field(
        default=True,
        description="Time both engines of a model when it is first asked for with 'auto', and take the faster.",
    )
    max_batch_rows: int = Field(default=64, ge=1, description="Inputs of several requests computed at once.")
    predict_timeout_s: Seconds = Field(
        default=30.0,
        description="A prediction whose model is not loaded or whose turn has not come by then is given up.",
    )
    model_cache_bytes: Bytes = 2 * GIB
    export_timeout_s: Seconds = Field(default=600.0, description="An export that takes longer is stopped.")
    export_cache_bytes: Bytes = Field(default=4 * GIB, description="Exported files kept for who asks next.")
    graph_cache_bytes: Bytes = Field(
        default=4 * GIB, description="Graphs of the engine 'openvino' kept for next time."
    )
    program_cache_bytes: Bytes = Field(
        default=4 * GIB, description="What JAX has compiled, kept for the next start."
    )

    device: Literal["auto", "cpu", "cuda"] = "auto"
    slots: int = Field(default=1, ge=1, description="Jobs that one worker runs at a time.")
    threads: int | None = Field(default=None, ge=1, description="Of one trainer; default: cores / slots.")
    warm_spare: bool = Field(default=True, description="Keep a trainer waiting with its framework imported.")
    beat_s: Seconds = 10.0
    lease_s: Seconds = 60.0
    reconcile_every_s: Seconds = 5.0
    redispatch_s: Seconds = 30.0
    max_attempts: int = Field(default=3, ge=1)
    backoff_s: Seconds = Field(
        default=5.0, description="Wait before the second attempt; doubled for each further."
    )
    checkpoint_every_s: Seconds = 30.0
    keep_checkpoints: int = Field(default=2, ge=1)
    grace_s: Seconds = Field(default=20.0, description="Time a trainer gets to write its checkpoint and end.")

    idle_trainer_s: Seconds = Field(
        default=600.0,
        description="A trainer that says and computes nothing for so long, before it takes its job or once at work, is"
        " ended; its job is retried.",
    )

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("data_dir", "datasets_dir", "pretrained_dir")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        return folder and folder.expanduser().absolute()

    @field_validator("api_key")
    @classmethod
    def _a_header_can_bring_it(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key else ""
        if not (text.isascii() and text.isprintable() and text == text.strip()):
            raise ValueError(
                "use letters, digits and signs of ASCII only: no HTTP header brings other characters"
            )
        return key

    @model_validator(mode="before")
    @classmethod
    def _database_in_the_data_folder(cls, values: dict[str, object]) -> dict[str, object]:
        if values.get("database_url"):
            return values
        folder = Path(str(values.get("data_dir", "tandem-data"))).expanduser().absolute()
        return {**values, "database_url": f"sqlite:///{folder / 'tandem.db'}"}

    @model_validator(mode="after")
    def _lease_outlasts_two_beats(self) -> Self:
        if self.self_fence_s <= 2 * self.beat_s:
            raise ValueError(
                f"lease_s is {self.lease_s:g}, too short for a beat of {self.beat_s:g} s: use more than"
                f" {2 * self.beat_s / SELF_FENCE_FRACTION:g}, so that one lost heartbeat ends nothing."
            )
        return self

    def environment(self) -> dict[str, str]:
        """The variables from which another process reads these settings; an empty one stands for None."""
        return {f"TANDEM_{name.upper()}": _as_text(value) for name, value in self}

    @property
    def self_fence_s(self) -> float:
        """After so long without an answered heartbeat a supervisor ends its attempt by itself."""
        return SELF_FENCE_FRACTION * self.lease_s

    @property
    def artifacts_dir(self) -> Path:
        """Weights and datasets, by content."""
        return self.data_dir / "artifacts"

    @property
    def checkpoints_dir(self) -> Path:
        """`<job>/<fence>/<step>/`; shared by all workers."""
        return self.data_dir / "checkpoints"

    @property
    def work_dir(self) -> Path:
        """Scratch space of running attempts; may be lost."""
        return self.data_dir / "work"

    @property
    def uploads_dir(self) -> Path:
        """Request bodies on their way in; may be lost."""
        return self.data_dir / "uploads"

    @property
    def cache_dir(self) -> Path:
        """Downloads and compiled programs; may be lost."""
        return self.data_dir / "cache"


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


@cache
def settings() -> Settings:
    """This process's settings, read once."""
    return Settings()
