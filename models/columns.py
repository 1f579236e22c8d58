"""The columns of a table as a client names them: what each holds, and how many numbers a network gets for it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Missing = Literal["refused", "filled", "flagged"]
MISSING = (
    "What becomes of a missing value (null): it is 'refused', for no row of the dataset lacks one; 'filled', with the"
    " training rows' mean or as no category at all; or filled and 'flagged' by a number of its own, for training rows"
    " lack some."
)


class _Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    missing: Missing = Field(default="refused", description=MISSING)

    @property
    def flags(self) -> int:
        """How many features say that the value is missing: 0 or 1."""
        return int(self.missing == "flagged")


class NumericColumn(_Column):
    """A number, in the units of the dataset."""

    kind: Literal["numeric"] = "numeric"

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return 1 + self.flags


class BooleanColumn(_Column):
    """true or false."""

    kind: Literal["boolean"] = "boolean"

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return 1 + self.flags


class CategoricalColumn(_Column):
    """One of several texts. `unseen` are those that no training row has; a network takes them for unknown ones."""

    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...] = Field(description="Those of the training rows; each is a feature.")
    unseen: tuple[str, ...] = Field(
        default=(), description="Those of validation and test rows only: no feature, like any unknown one."
    )

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return len(self.categories) + self.flags


_EXACT = 2**53  # below it, every whole number is a float of its own
Column = Annotated[NumericColumn | BooleanColumn | CategoricalColumn, Field(discriminator="kind")]


def width(fields: tuple[Column, ...]) -> int:
    """How many features these columns become together."""
    return sum(field.width for field in fields)


def category_name(value: str | int | float | bool) -> str:
    """A value as the name of a category: 1, 1.0 and "1" are the same, and so are true and "true"."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value)
