"""Workers, architectures, health."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from app.schemas.paging import Answer
from models.framework import Framework
from models.signature import Task
from workers.fleet import WorkerRecord


class Worker(Answer):
    """A worker that has given a sign of life lately."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "wrk_01jd8zq4m3v6x9n2k5t7w0y1ab",
                    "object": "worker",
                    "host": "trainer-1",
                    "pid": 4711,
                    "framework": "jax",
                    "device": "cpu",
                    "slots": 1,
                    "jobs": ["job_01jd8zq4m3v6x9n2k5t7w0y1ab"],
                    "started_at": "2026-01-05T09:00:00Z",
                    "last_seen_at": "2026-01-05T09:30:00Z",
                }
            ]
        }
    )
    id: str
    object: Literal["worker"] = "worker"
    host: str
    pid: int
    framework: Framework
    device: str | None
    slots: int = Field(description="Jobs that it runs at a time.")
    jobs: tuple[str, ...]
    started_at: datetime
    last_seen_at: datetime

    @classmethod
    def of(cls, record: WorkerRecord) -> Self:
        return cls.model_validate(record, from_attributes=True)


class Architecture(Answer):
    """A network that jobs can ask for. `schema` is the JSON Schema of a job's `model`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "linear",
                    "object": "architecture",
                    "title": "Linear model",
                    "description": "One fully connected layer over the flattened input.",
                    "tasks": ["image-classification", "tabular-classification", "tabular-regression"],
                    "frameworks": ["torch", "jax"],
                    "schema": {
                        "type": "object",
                        "properties": {"architecture": {"const": "linear", "type": "string"}},
                        "additionalProperties": False,
                    },
                }
            ]
        },
        serialize_by_alias=True,
        validate_by_name=True,
    )
    name: str
    object: Literal["architecture"] = "architecture"
    title: str
    description: str
    tasks: tuple[Task, ...]
    frameworks: tuple[Framework, ...]
    json_schema: dict[str, Any] = Field(alias="schema")


class Alive(Answer):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive", "version": "0.1.0"}]})
    status: Literal["alive"] = "alive"
    version: str


class Ready(Answer):
    """Everything that requests need answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"status": "ready", "checks": {"database": "ok", "broker": "ok", "artifacts": "ok"}}]
        }
    )
    status: Literal["ready"] = "ready"
    checks: dict[str, Literal["ok"]]
