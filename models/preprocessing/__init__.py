"""What lies between a client's input and a model's: decoding, resizing, tokens, column order, normalisation.

Stored with the dataset and with every model trained on it, and applied by us, so that no client repeats it. A kind of
input is a file here and a member of the union.
"""

from typing import Annotated

from pydantic import Field

from models.preprocessing.image import ImagePreprocessing
from models.preprocessing.normalisation import SMALLEST_STD, Normalisation
from models.preprocessing.table import TablePreprocessing
from models.preprocessing.text import TextPreprocessing

__all__ = [
    "SMALLEST_STD",
    "ImagePreprocessing",
    "Normalisation",
    "Preprocessing",
    "TablePreprocessing",
    "TextPreprocessing",
]

Preprocessing = Annotated[
    ImagePreprocessing | TablePreprocessing | TextPreprocessing, Field(discriminator="kind")
]
