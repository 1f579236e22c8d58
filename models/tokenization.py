"""Tokenizers: trained on texts, or read from the JSON that travels with a model.

The word tokenizer's vocabulary is ordered by frequency, then alphabetically; byte-level BPE is that of Radford et al.
2019 (GPT-2). Both are Hugging Face `tokenizers`, and equal texts give equal JSON.

Shape suffixes: B batch, T tokens.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from models.errors import InvalidInput
from models.text_spec import TextSpec

PADDING, UNKNOWN, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
PADDING_ID = 0
CHUNK = 1024
"""Texts encoded together: enough to keep all cores busy, few enough to need little memory."""

# A word keeps its apostrophes, since "don't" is not "don" and "t". Of letters without end only so many are one word.
WORDS = r"[\p{L}\p{N}\p{M}_]{1,64}(?:['’][\p{L}\p{N}\p{M}_]{1,64})*|[^\s\p{L}\p{N}\p{M}_]"


class Encoder:
    """A tokenizer that gives token ids, cut to `length`. Threads may share it: after this it is never changed."""

    def __init__(self, text: str, length: int) -> None:
        """`text`: the tokenizer's JSON. Raises InvalidInput if it is none."""
        self.length = length
        self._tokenizer = parsed(text)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(length)
        # "[PAD]" in somebody's text is six characters and not the padding.
        self._tokenizer.encode_special_tokens = True
        special = {id for id, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        self._special = frozenset(special)
        self.vocabulary: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.unknown: int | None = self._tokenizer.token_to_id(_unknown_token(self._tokenizer))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text; none for a text without tokens.

        Raises InvalidInput if the tokenizer, somebody else's, cannot take a text.
        """
        try:
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        except Exception as error:  # noqa: BLE001 - the library raises nothing more special
            raise InvalidInput(f"The model's tokenizer cannot take this text: {str(error)[:200]}.") from None

    def knows(self, ids: Iterable[int]) -> bool:
        """Whether a token is among them that stands for a part of a text, and not for the unknown or a mark."""
        return not self._special.issuperset(ids)


def filled(rows: Sequence[Sequence[int]], width: int, padding: int) -> np.ndarray:
    """Rows of token ids as int32 [B, width], filled up with `padding`."""
    lengths_B = np.fromiter(map(len, rows), np.int64, len(rows))
    ids_BT = np.full((len(rows), width), padding, np.int32)
    flat = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths_B.sum()))
    ids_BT[np.arange(width) < lengths_B[:, None]] = flat
    return ids_BT


def parsed(text: str) -> Tokenizer:
    """The tokenizer of a JSON text. Raises InvalidInput if it is none."""
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 - the library raises nothing more special
        raise InvalidInput(
            f"This is not a tokenizer that Hugging Face's `tokenizers` can read: {str(error)[:200]}"
        ) from None


def trained(texts: Sequence[str], spec: TextSpec) -> str:
    """The JSON of a tokenizer trained on these texts as the options say.

    Raises:
        InvalidInput: the texts hold no token at all.
    """
    marks = [PADDING, UNKNOWN, *((CLS, SEP) if spec.framed else ())]
    tokenizer = _trained(texts, spec, marks, spec.min_frequency)
    if tokenizer.get_vocab_size() == len(marks):  # no word comes so often in this little text
        tokenizer = _trained(texts, spec, marks, 1)
    if tokenizer.get_vocab_size() == len(marks):
        raise InvalidInput("The training split holds no words: its texts are empty.", pointer="/dataset")
    if spec.framed:
        ids = [(mark, marks.index(mark)) for mark in (CLS, SEP)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B {SEP}", special_tokens=ids
        )
    return str(tokenizer.to_str())


def _trained(texts: Sequence[str], spec: TextSpec, marks: list[str], min_frequency: int) -> Tokenizer:
    tokenizer, trainer = (_word if spec.tokenizer == "word" else _bpe)(spec.vocabulary, marks, min_frequency)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.train_from_iterator(chunks(texts), trainer, length=len(texts))
    return tokenizer


def _word(vocabulary: int, marks: list[str], min_frequency: int) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    options: dict[str, Any] = {
        "min_frequency": min_frequency,
        "special_tokens": marks,
        "show_progress": False,
    }
    return tokenizer, trainers.WordLevelTrainer(vocab_size=vocabulary, **options)


def _bpe(vocabulary: int, marks: list[str], min_frequency: int) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    options: dict[str, Any] = {
        "min_frequency": min_frequency,
        "special_tokens": marks,
        "show_progress": False,
    }
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return tokenizer, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, **options)


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, CHUNK at a time."""
    remaining = iter(texts)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _unknown_token(tokenizer: Tokenizer) -> str:
    # What WordLevel, WordPiece and BPE call it; Unigram has an id instead and never lacks one.
    return str(getattr(tokenizer.model, "unk_token", None) or UNKNOWN)
