"""What every architecture for texts lets a job choose: how texts become tokens."""

from typing import ClassVar, Literal

from pydantic import Field

from models.architecture import Spec
from models.errors import InvalidInput
from models.signature import Signature, Task, TextInput, TokenInput

TokenizerName = Literal["word", "bpe"]
LARGEST_VOCABULARY = 50_000
SMALLEST_BPE = 512
"""Byte-level BPE begins with 256 tokens; with hardly more it could as well read single bytes."""


class TextSpec(Spec):
    """An architecture that reads tokens. Its tokenizer is trained on the training split; a job that starts from
    weights takes the tokenizer that these weights were trained with instead, and `length` is all that still counts."""

    tokenizer: TokenizerName = Field(
        default="word",
        description="'word': words and punctuation, lower-cased; 'bpe': parts of words, byte-level, in which no text"
        " is unknown.",
    )
    vocabulary: int = Field(
        default=20_000, ge=16, le=LARGEST_VOCABULARY, description="The most tokens to tell apart."
    )
    min_frequency: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="How often a token must occur in the training split to get an id.",
    )
    length: int = Field(
        default=256, ge=4, le=4096, description="The most tokens of a text; what comes after them is cut off."
    )

    tasks: ClassVar[tuple[Task, ...]] = ("text-classification",)
    framed: ClassVar[bool] = False
    """Whether a text stands between the tokens [CLS] and [SEP]."""

    def check(self, signature: Signature) -> None:
        super().check(signature)
        if self.tokenizer == "bpe" and self.vocabulary < SMALLEST_BPE:
            raise InvalidInput(
                f"vocabulary is {self.vocabulary}; the 'bpe' tokenizer needs at least {SMALLEST_BPE}, for 256 bytes are"
                " tokens of it already. Give more, or use the 'word' tokenizer.",
                pointer="/model/vocabulary",
            )

    def tokens(self, signature: Signature) -> TokenInput:
        """What the network takes. Of texts that are no tokens yet: the most that its tokenizer may become."""
        if isinstance(signature.input, TextInput):
            return TokenInput(vocabulary=self.vocabulary, length=self.length, padding=0)
        assert isinstance(signature.input, TokenInput)
        return signature.input
