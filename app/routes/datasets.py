"""Datasets: the built-in ones and uploads."""

from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from app import strict_json
from app.bodies import validate
from app.deps import IdempotencyKey, Paging, Uses
from app.forms import FORM, files_of, path_of, receiving
from app.idempotency import Answer, Sent, once
from app.multipart import Form
from app.openapi import READING_A_BODY, Responses, problems
from app.schemas.datasets import Dataset, DeletedDataset
from app.schemas.paging import Listed
from app.schemas.previews import Preview, SplitName
from app.services import Services
from models.data import uploads
from models.data.uploads import UploadOptions
from models.data.uploads.options import ColumnKind
from models.errors import TandemError
from models.preprocessing.options import Resize
from models.signature import Task
from workers import datasets
from workers.datasets import DatasetRecord
from workers.idempotency import IdempotencyClaim, fingerprint

router = APIRouter(prefix="/datasets", tags=["Datasets"])

NameOrId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="A dataset's name or id.", examples=["digits"])
]


class Previewed(BaseModel):
    """Which samples."""

    model_config = ConfigDict(extra="forbid")
    split: SplitName = Field(default="train", description="Which part.", examples=["train"])
    limit: int = Field(default=8, ge=1, le=100, description="How many samples.", examples=[8])


LARGEST_SIDE = 4096


def _sides(value: object) -> object:
    """'64' or '48x64' as height and width."""
    if not isinstance(value, str):
        return value
    sides = value.lower().replace(",", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() and len(side) < 6 for side in sides):
        raise ValueError("write the size as '64', or as height and width: '48x64'")
    return (int(sides[0]), int(sides[-1]))


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 6 else value


class UploadForm(BaseModel):
    """The fields that come with the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    task: Task
    target: str | None = Field(
        default=None, max_length=200, description="The column to predict; for texts 'label' unless given."
    )
    text: str | None = Field(
        default=None, max_length=200, description="The column that holds the text; 'text' unless given."
    )
    columns: dict[str, ColumnKind] | None = Field(
        default=None,
        description="What columns of a table hold, as a JSON object, where it is not what their values look like:"
        " 'numeric', 'categorical' or 'ignore'.",
    )
    size: Annotated[tuple[int, int], BeforeValidator(_sides)] | None = Field(
        default=None,
        description="Images: height and width in pixels, as '64' or '48x64'. Without it images of one size keep it, and"
        " others get their median size, at most 224.",
    )
    resize: Resize | None = Field(
        default=None, description="Images: how other proportions get this size; 'stretch' unless given."
    )
    channels: Annotated[Literal[1, 3], BeforeValidator(_number)] | None = Field(
        default=None, description="Images: 1 for grey, 3 for coloured; without it all must be of one kind."
    )
    test_fraction: float | None = Field(
        default=None, description="How much to set aside for the test, if the file has no test part."
    )
    validation_fraction: float | None = Field(
        default=None,
        description="How much of the rest to set aside for validation, if the file has no such part; 0.1 unless given.",
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _parsed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return strict_json.loads(value.encode())
        except TandemError as error:
            raise ValueError(f'write a JSON object, e.g. {{"zip": "categorical"}}. {error.detail}') from error

    @field_validator("size")
    @classmethod
    def _bounded(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None and not all(1 <= side <= LARGEST_SIDE for side in size):
            raise ValueError(f"a side has 1 to {LARGEST_SIDE} pixels")
        return size


FORM_EXAMPLE = {"name": "iris", "task": "tabular-classification", "target": "species", "test_fraction": 0.15}
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file", "name", "task"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "Images: a `.zip` of class folders, perhaps under `train` and `test`, or a"
                            " `.npz` with `x` and `y` (or `x_train`, `y_train`, `x_test`, `y_test`). Texts: `.jsonl`,"
                            " `.csv` or `.parquet` with a column of texts and one of labels. Tables: the same three, or"
                            " `.npz`.",
                        },
                        **UploadForm.model_json_schema()["properties"],
                    },
                    "additionalProperties": False,
                },
                "example": {"file": "sepal_length,sepal_width,species\n5.1,3.5,setosa\n", **FORM_EXAMPLE},
            }
        },
    }
}
CREATED: Responses = {
    201: {
        "model": Dataset,
        "description": "The dataset.",
        "headers": {
            "Location": {
                "description": "Where the dataset is.",
                "schema": {"type": "string"},
                "example": "/datasets/ds_01jd8zq4m3v6x9n2k5t7w0y1ab",
            }
        },
    }
}


@router.post(
    "", status_code=201, responses=problems(409, *READING_A_BODY, besides=CREATED), openapi_extra=UPLOAD_BODY
)
async def upload_dataset(request: Request, key: IdempotencyKey, uses: Uses) -> Response:
    """Upload a dataset.

    The file is checked, split into training, validation and test parts, and kept; what it is normalised with is
    computed from the training part. Equal files are split equally.
    """
    folder = uses.settings.uploads_dir
    with receiving(request, folder, most_files=1, fields="the fields 'name' and 'task'") as form_reader:
        form = await form_reader.read(request)
        return await run_sync(_take_in, uses, key, form, limiter=uses.ingestion)


@router.get("", responses=problems())
def list_datasets(paging: Annotated[Paging, Query()], uses: Uses) -> Listed[Dataset]:
    """Datasets, newest first, the built-in ones last."""
    page = datasets.page(uses.database, **paging.model_dump())
    return Listed[Dataset].of(map(Dataset.of, page.data), (one.id for one in page.data), page.has_more)


@router.get("/{name_or_id}", responses=problems(404))
def get_dataset(name_or_id: NameOrId, uses: Uses) -> Dataset:
    """One dataset."""
    return Dataset.of(datasets.get(uses.database, name_or_id))


@router.get("/{name_or_id}/preview", responses=problems(404, 409))
def preview_dataset(name_or_id: NameOrId, wanted: Annotated[Previewed, Query()], uses: Uses) -> Preview:
    """The first samples, each as `POST /predict` would take it, with what it is; how many of each class every split
    has, and warnings about the whole.

    409 for a built-in dataset that has to be downloaded and that no job has used yet.
    """
    record = datasets.get(uses.database, name_or_id)
    return Preview.of(record, datasets.samples(uses.store, record), wanted.split, wanted.limit)


@router.delete("/{name_or_id}", responses=problems(403, 404, 409))
def delete_dataset(name_or_id: NameOrId, uses: Uses) -> DeletedDataset:
    """Delete an upload. Built-in datasets and those that a job needs cannot be deleted; models stay."""
    record = datasets.get(uses.database, name_or_id)
    datasets.delete(uses.database, uses.store, record.id)
    return DeletedDataset(id=record.id, name=record.name)


def _take_in(uses: Services, key: str | None, form: Form) -> Response:
    part = files_of(form, "file")["file"]
    fields = validate(UploadForm, form.fields)

    def create(claim: IdempotencyClaim | None) -> DatasetRecord:
        datasets.check_name(uses.database, fields.name)
        dataset = uploads.ingest(path_of(part), f"upload{part.suffix}", _options(uses, fields))
        return datasets.add(uses.database, uses.store, fields.name, dataset, idempotency=claim)

    sent = Sent(key, "POST /datasets", fingerprint(fields.model_dump_json(), part.suffix, part.sha256))
    return once(uses.database, sent, create, lambda ds_id: datasets.get(uses.database, ds_id), _created)


def _options(uses: Services, fields: UploadForm) -> UploadOptions:
    given = fields.model_dump(exclude_none=True, exclude={"name"})
    return UploadOptions(**given, folder=uses.settings.uploads_dir)


def _created(record: DatasetRecord) -> Answer:
    return Answer(Dataset.of(record).model_dump_json(), f"/datasets/{record.id}")
