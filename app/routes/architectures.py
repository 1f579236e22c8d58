"""The networks that jobs can ask for."""

from importlib.util import find_spec
from inspect import getdoc
from typing import Annotated

from fastapi import APIRouter, Query

from app.deps import Paging
from app.openapi import problems
from app.schemas.operations import Architecture
from app.schemas.paging import Listed
from models import catalog
from models.architecture import Spec
from models.framework import FRAMEWORKS, Framework

router = APIRouter(tags=["Operations"])


@router.get("/architectures", responses=problems())
def list_architectures(paging: Annotated[Paging, Query()]) -> Listed[Architecture]:
    """Every architecture with the JSON Schema of its options, the tasks it does and the frameworks that have it.

    By name; `asc` turns the list round.
    """
    found = [_described(name, spec) for name, spec in sorted(catalog.architectures().items())]
    return Listed[Architecture].part(found, lambda one: one.name, **paging.model_dump())


def _described(name: str, spec: type[Spec]) -> Architecture:
    return Architecture(
        name=name,
        title=spec.title,
        description=getdoc(spec) or "",
        tasks=spec.tasks,
        frameworks=tuple(framework for framework in FRAMEWORKS if _implemented(spec, framework)),
        json_schema=spec.model_json_schema(),
    )


def _implemented(spec: type[Spec], framework: Framework) -> bool:
    """Whether the architecture's folder has this framework's module. Nothing is imported."""
    package = spec.__module__.rpartition(".")[0]
    return find_spec(f"{package}.{framework}") is not None
