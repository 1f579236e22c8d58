"""JSON as RFC 8259 means it, and no more: UTF-8 without a mark, finite numbers, whole characters, bounded nesting.

orjson does the reading. Python's own parser, which accepts more, only explains what orjson refused.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from models.errors import InvalidInput, Malformed

DEEPEST = 16
CONTAINERS = frozenset({dict, list})
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_SURROGATE = re.compile("[\ud800-\udfff]")


def loads(body: bytes) -> Any:
    """The value that the body holds.

    Raises:
        Malformed: not UTF-8, or not JSON at all.
        InvalidInput: NaN, Infinity, a number beyond float64, half a surrogate pair, U+0000, or nesting beyond
            `DEEPEST`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _explained(body, error) from None
    if body.count(b"[") + body.count(b"{") > DEEPEST:
        _check_depth(value)
    if b"\\" in body and b"\\u0000" in body:  # a single byte is found sooner, and rare
        _refuse_null_characters(value)
    return value


def refuse_duplicates(body: bytes) -> None:
    """Raise InvalidInput if an object has a key twice: one of the two values would be lost in silence."""
    try:
        json.loads(body, object_pairs_hook=_unique)
    except _Twice:
        pointer, name = next(_twice(json.loads(body, object_pairs_hook=_Pairs), ""))
        detail = f"The field {name[:80]!r} is given twice. Give it once."
        raise InvalidInput(detail, pointer=pointer, code="duplicate_field") from None


def refuse_duplicates_of(value: Any, body: bytes) -> None:
    """The same of a body whose value is known, sooner. Every key has a colon behind it: a body with no more colons than
    its value has keys has none twice. Those with colons in their texts, or keys further down, are read once more."""
    colons = body.count(b":")
    if type(value) is dict and colons == len(value):
        return
    if colons > _keys(value):
        refuse_duplicates(body)


def _keys(value: Any) -> int:
    """How many keys the value's objects have; those in lists of lists, which are long, are left out."""
    found = 0
    if type(value) is dict:
        found = len(value)
        for child in value.values():
            if type(child) in CONTAINERS:
                found += _keys(child)
    elif type(value) is list and value and type(value[0]) is dict:
        for child in value:
            found += _keys(child)
    return found


class _Twice(Exception):
    """A key is given twice."""


class _Pairs(list[Any]):
    """An object with everything that was given."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise _Twice
    return unique


def _twice(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """Where keys are given twice, and which."""
    if isinstance(value, _Pairs):
        names = Counter(name for name, _ in value)
        yield from ((f"{pointer}/{escaped(name)}", name) for name, count in names.items() if count > 1)
    elif not isinstance(value, list):
        return
    for name, child in value if isinstance(value, _Pairs) else enumerate(value):
        yield from _twice(child, f"{pointer}/{escaped(str(name))}")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is list or type(child) is dict
        ]
        if not level:
            return
    raise _too_deep()


def _refuse_null_characters(value: Any) -> None:
    """PostgreSQL stores no text with U+0000 in it, and no name has one."""
    for pointer, leaf in _leaves(value, ""):
        if isinstance(leaf, str) and "\x00" in leaf:
            raise InvalidInput("The text holds the character U+0000.", pointer=pointer, code="null_character")


def _too_deep() -> InvalidInput:
    return InvalidInput(f"The body is nested deeper than {DEEPEST} levels.", code="too_deep")


def _explained(body: bytes, refusal: orjson.JSONDecodeError) -> Malformed | InvalidInput:
    """What is wrong with a body that orjson refused."""
    if not body.strip():
        return Malformed("The body is empty. Send a JSON object.", code="empty_body")
    if body.startswith(_BYTE_ORDER_MARKS) or b"\x00" in body[:4]:
        return Malformed("The body must be UTF-8 without a byte order mark.", code="invalid_encoding")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return Malformed(f"The body is not UTF-8: byte {error.start} fits nowhere.", code="invalid_encoding")
    if "depth limit" in refusal.msg:
        return _too_deep()
    return _bad_value(text) or _bad_syntax(refusal)


def _bad_syntax(refusal: orjson.JSONDecodeError) -> Malformed:
    where = f"line {refusal.lineno}, column {refusal.colno}"
    return Malformed(f"The body is not JSON: {refusal.msg.partition(':')[0]}, {where}.", code="invalid_json")


def _bad_value(text: str) -> InvalidInput | None:
    """The first value that Python's more tolerant parser reads and JSON does not know."""
    try:
        value = json.loads(text, parse_constant=_NotFinite, parse_float=_finite, parse_int=_finite)
    except (ValueError, RecursionError):
        return None
    for pointer, leaf in _leaves(value, ""):
        if isinstance(leaf, _NotFinite):
            detail = f"{leaf.text[:40]} is not a finite number; JSON has none such."
            return InvalidInput(detail, pointer=pointer, code="not_finite")
        if isinstance(leaf, str) and _SURROGATE.search(leaf):
            detail = "The text holds half of a surrogate pair. Send whole characters."
            return InvalidInput(detail, pointer=_SURROGATE.sub("\ufffd", pointer), code="lone_surrogate")
    return None


class _NotFinite:
    def __init__(self, text: str) -> None:
        self.text = text


def _finite(text: str) -> float | _NotFinite:
    number = float(text)
    return number if abs(number) != float("inf") else _NotFinite(text)


def _leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Every key and every value that holds no others, in order, with JSON pointers."""
    stack = [(pointer, value)]
    while stack:
        pointer, value = stack.pop()
        if isinstance(value, dict):
            stack.extend((f"{pointer}/{escaped(key)}", child) for key, child in reversed(value.items()))
            yield from ((f"{pointer}/{escaped(key)}", key) for key in value)
        elif isinstance(value, list):
            stack.extend((f"{pointer}/{index}", value[index]) for index in range(len(value) - 1, -1, -1))
        else:
            yield pointer, value


def escaped(name: str) -> str:
    """A name as one part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
