"""Plain texts as the token ids that one network takes."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.plan import width_of
from models.preprocessing.text_items import refuse_unknown, texts_of
from models.signature import TokenInput
from models.tokenization import Encoder, filled


class TextPreprocessing(BaseModel):
    """A tokenizer, as the JSON text of Hugging Face's `tokenizers`, and how its tokens become a batch.

    `length`: the most tokens of a text, special ones included. `padding`: the id that fills short texts up.
    `vocabulary`: ids are 0 to this, exclusive; a network may have more rows than its tokenizer has tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["text"] = "text"
    tokenizer: str = Field(repr=False)
    length: int = Field(ge=1)
    padding: int = Field(ge=0)
    vocabulary: int = Field(ge=1)

    @cached_property
    def encoder(self) -> Encoder:
        """The tokenizer, parsed on first use. Raises InvalidInput if it is none.

        `model_copy` would take it along, whatever is changed: build another TextPreprocessing instead.
        """
        return Encoder(self.tokenizer, self.length)

    def batch(self, items: Sequence[object]) -> np.ndarray:
        """Raw model input, int32 [B, T], from items of a request: texts, or objects `{"text": ...}`. T is the number
        of tokens of the longest, rounded up to a usual width.

        Raises:
            InvalidInput: with pointer `/inputs/<i>`.
        """
        rows = self.encoder.ids(texts_of(items))
        refuse_unknown(rows, self.encoder)
        return filled(rows, width_of(max(map(len, rows)), self.length), self.padding)

    @property
    def input(self) -> TokenInput:
        """What the network takes."""
        return TokenInput(vocabulary=self.vocabulary, length=self.length, padding=self.padding)

    @property
    def normalisation(self) -> None:
        """Tokens go into the network as they are."""

    def example(self) -> np.ndarray:
        """One valid raw item, int32 [T]: a short text of a single token. Stack it for a warm-up batch."""
        some = next(id for id in range(self.vocabulary) if id != self.padding)
        (ids_T,) = filled([[some]], width_of(1, self.length), self.padding)
        return np.asarray(ids_T)
