"""Items of a prediction request as texts that have tokens."""

from collections.abc import Sequence

from models.errors import InvalidInput
from models.preprocessing.fields import check_only
from models.tokenization import Encoder


def texts_of(items: Sequence[object]) -> list[str]:
    """The texts of a request.

    Raises:
        InvalidInput: with the pointer of the first item that is none, `/inputs/<i>`.
    """
    if not items:
        raise InvalidInput("Send at least one input.", pointer="/inputs")
    return [_text(item, f"/inputs/{index}") for index, item in enumerate(items)]


def refuse_unknown(rows: Sequence[Sequence[int]], encoder: Encoder) -> None:
    """Raise InvalidInput for the first text of which the tokenizer knows no part: the answer would mean nothing."""
    for index, ids in enumerate(rows):
        if not encoder.knows(ids):
            raise InvalidInput(
                "None of this text's words is known to the model. Send a text in the language and script that it was"
                " trained on.",
                pointer=f"/inputs/{index}",
                code="unknown_text",
            )


def _text(item: object, pointer: str) -> str:
    if isinstance(item, dict):
        return _of_object(item, pointer)
    if not isinstance(item, str):
        raise InvalidInput(
            f'A text model cannot take {_name(item)} as an input. Send a text, or an object {{"text": "..."}}.',
            pointer=pointer,
        )
    if not item.strip():
        raise InvalidInput("This text is empty. Send a text with at least one word.", pointer=pointer)
    try:
        item.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            "This text holds half of a surrogate pair, which stands for no character. Send valid Unicode.",
            pointer=pointer,
        ) from None
    return item


def _of_object(item: dict[object, object], pointer: str) -> str:
    check_only("text", item, pointer)
    text = item.get("text")
    if not isinstance(text, str):
        raise InvalidInput(
            f'"text" must be a text; here it is {_name(text) if "text" in item else "missing"}.',
            pointer=f"{pointer}/text",
        )
    return _text(text, pointer)


def _name(item: object) -> str:
    names: dict[type, str] = {
        list: "a list",
        dict: "an object",
        bool: "a boolean",
        type(None): "null",
        int: "a number",
        float: "a number",
        bytes: "a file",
    }
    return names.get(type(item), "this")
