"""What is asked for when a model is exported."""

from pydantic import BaseModel, ConfigDict, Field

from models.exports.formats import FORMATS


class ExportBody(BaseModel):
    """The format to export to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    format: str = Field(max_length=80, json_schema_extra={"enum": list(FORMATS)})
