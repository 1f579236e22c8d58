"""A published checkpoint's tokenizer as one JSON text, whichever files it came in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer

from models.errors import CorruptArtifact
from models.tokenization import parsed


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


def padding_id(text: str) -> int:
    """The id that fills short texts up: the token [PAD] or <pad>, else 0."""
    tokenizer = parsed(text)
    found = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((id for id in found if id is not None), 0)


def needed_rows(text: str) -> int:
    """How many embeddings a network needs for this tokenizer's ids: between them may be gaps, and the marks around a
    text have ids of their own."""
    tokenizer = parsed(text)
    tokenizer.no_padding()
    ids = [*tokenizer.get_vocab(with_added_tokens=True).values(), *tokenizer.encode("").ids]
    return 1 + max(ids, default=-1)


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
