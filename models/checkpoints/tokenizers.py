"""A published checkpoint's tokenizer as one JSON text, whichever files it came in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer, Tokenizer

from models.errors import CorruptArtifact, InvalidInput
from models.tokenization import parsed

UNUSUAL = "𪚥 ꙮ ☃ qzxj"
"""A text of words that hardly any vocabulary has."""


def tokenizer_json(files: Mapping[str, Path]) -> str:
    """From `tokenizer.json`; else from `vocab.txt`, by which texts are split as BERT's are, lower-cased unless
    `tokenizer_config.json` says otherwise.

    Raises:
        CorruptArtifact: the files are not a tokenizer's.
    """
    try:
        if "tokenizer.json" in files:
            text = files["tokenizer.json"].read_text("utf-8")
            parsed(text)
            return text
        return _word_pieces(files["vocab.txt"], _config(files.get("tokenizer_config.json")))
    except Exception as error:  # the library raises nothing more special
        raise CorruptArtifact(f"The tokenizer's files cannot be read: {str(error)[:200]}") from error


def padding_id(text: str, rows: int) -> int:
    """The id that fills short texts up: that of the token [PAD] or <pad>, or of what the tokenizer itself says it pads
    with; else one of the network's `rows` embeddings that no token has.

    Raises:
        InvalidInput: there is neither. To fill up with a word would make texts of that word empty.
    """
    tokenizer = parsed(text)
    names = ("[PAD]", "<pad>", (tokenizer.padding or {}).get("pad_token", ""))
    found = (tokenizer.token_to_id(name) for name in names)
    used = _ids(tokenizer)
    unused = (id for id in range(rows) if id not in used)
    id = next((id for id in (*found, next(unused, None)) if id is not None), None)
    if id is None:
        raise InvalidInput(
            "The tokenizer has no token to fill short texts up with, [PAD] or <pad>, and the network has an embedding"
            " for none but its tokens.",
            code="tokenizer_mismatch",
        )
    return id


def needed_rows(text: str) -> int:
    """How many embeddings a network needs for this tokenizer's ids: between them may be gaps, and the marks around a
    text have ids of their own."""
    return 1 + max(_ids(parsed(text)), default=-1)


def check(text: str, rows: int) -> None:
    """Raise InvalidInput unless the tokenizer takes any text, and gives ids below `rows`."""
    if (needed := needed_rows(text)) > rows:
        raise InvalidInput(
            f"The tokenizer has {needed} tokens, but the network has embeddings of {rows}.",
            code="tokenizer_mismatch",
        )
    try:
        parsed(text).encode(UNUSUAL)
    except Exception as error:  # noqa: BLE001 - the library raises nothing more special
        raise InvalidInput(
            f"The tokenizer cannot take a text with unknown words: {str(error)[:200]}.",
            code="tokenizer_mismatch",
        ) from None


def _ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Of all tokens, and of the marks around a text."""
    tokenizer.no_padding()
    return frozenset([*tokenizer.get_vocab(with_added_tokens=True).values(), *tokenizer.encode("").ids])


def _word_pieces(vocabulary: Path, config: Mapping[str, Any]) -> str:
    # Only line feeds end a word: some are other characters that Unicode too calls ends of lines.
    words = vocabulary.read_text("utf-8").removesuffix("\n").split("\n")
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = BertWordPieceTokenizer(
        ids,
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    return str(tokenizer.to_str())


def _config(file: Path | None) -> Mapping[str, Any]:
    return {} if file is None else dict(json.loads(file.read_text("utf-8")))
