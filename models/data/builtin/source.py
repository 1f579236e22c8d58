"""What a built-in dataset is: known by description before anything is read or downloaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.data.dataset import Dataset, DatasetDescription, Splits
from models.errors import InvalidInput
from models.signature import ImageInput


@dataclass(frozen=True)
class Builtin:
    """`reader` takes the folder where dataset files are or may be put, and returns the dataset. `shipped`: it needs
    no files there, for it comes with a package that is installed."""

    name: str
    title: str
    description: DatasetDescription
    reader: Callable[[Path], Dataset]
    shipped: bool = False

    def load(self, root: Path) -> Dataset:
        """The dataset, from the files in `root` or downloaded into it. May import heavy packages.

        Raises:
            InvalidInput: the files in `root` are not this dataset.
            Unavailable: there are no files and the download failed.
        """
        dataset = self.reader(root)
        if dataset.description != self.description:
            raise InvalidInput(
                f"The files found for {self.name!r} hold {_sizes(dataset.description.splits)}; expected are "
                f"{_sizes(self.description.splits)}. Replace them with the publisher's files, or remove them to "
                "have them downloaded.",
                pointer="/dataset",
            )
        return dataset


def image_classes(
    height: int, width: int, channels: int, classes: tuple[str, ...], splits: Splits
) -> DatasetDescription:
    """Describes a set of images to classify."""
    size = ImageInput.model_validate({"height": height, "width": width, "channels": channels})
    return DatasetDescription(task="image-classification", input=size, classes=classes, splits=splits)


def _sizes(splits: Splits) -> str:
    return f"{splits.train} + {splits.validation} + {splits.test} samples (train, validation, test)"
