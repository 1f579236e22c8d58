"""A published checkpoint's tokenizer as one JSON text, whichever files it came in."""

import json
from collections.abc import Mapping
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from models.errors import CorruptArtifact
from models.tokenization import parsed


def tokenizer_json(files: Mapping[str, Path]) -> str:
    """From `tokenizer.json`; else from `vocab.txt`, whose words are split as BERT's are, lower-cased unless
    `tokenizer_config.json` says otherwise.

    Raises:
        CorruptArtifact: the files are not a tokenizer's.
    """
    try:
        if "tokenizer.json" in files:
            text = files["tokenizer.json"].read_text()
            parsed(text)
            return text
        return _word_pieces(files["vocab.txt"], lowercase=_lowercase(files.get("tokenizer_config.json")))
    except Exception as error:  # the library raises nothing more special
        raise CorruptArtifact(f"The tokenizer's files cannot be read: {str(error)[:200]}") from error


def padding_id(text: str) -> int:
    """The id that fills short texts up: the token [PAD] or <pad>, else 0."""
    tokenizer = parsed(text)
    found = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((id for id in found if id is not None), 0)


def _word_pieces(vocabulary: Path, *, lowercase: bool) -> str:
    words = vocabulary.read_text().splitlines()
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = BertWordPieceTokenizer(ids, lowercase=lowercase, strip_accents=None)
    return str(tokenizer.to_str())


def _lowercase(config: Path | None) -> bool:
    return config is None or bool(json.loads(config.read_text()).get("do_lower_case", True))
