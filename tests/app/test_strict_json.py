"""JSON bodies: what is refused, with which status, and where."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import strict_json
from models.errors import InvalidInput, Malformed

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), children, max_size=4
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_every_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert strict_json.loads(orjson.dumps(value)) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        strict_json.loads(body)
    except (Malformed, InvalidInput) as refusal:
        assert refusal.detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"[1,]",
        b"{'a': 1}",
        b'{"a": 1} x',
        b"\xff\xfe{\x00}\x00",
        "{}".encode("utf-16-be"),
        "{}".encode("utf-32"),
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
    ],
)
def test_what_is_not_utf8_or_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        strict_json.loads(body)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b'{"a": [1, NaN]}', "not_finite", "/a/1"),
        (b'{"a": -Infinity}', "not_finite", "/a"),
        (b'{"a": {"b/c": 1e400}}', "not_finite", "/a/b~1c"),
        (b'{"a": "\\ud800"}', "lone_surrogate", "/a"),
        (b'{"a": "\\udc00x"}', "lone_surrogate", "/a"),
        (b'{"a": "\\u0000"}', "null_character", "/a"),
        (b'{"\\u0000": 1}', "null_character", "/\x00"),
        (b"[" * 17 + b"]" * 17, "too_deep", None),
        (b"[" * 100_000, "too_deep", None),
    ],
)
def test_values_that_json_does_not_know_are_invalid(body: bytes, code: str, pointer: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        strict_json.loads(body)
    assert caught.value.specific_code == code
    assert caught.value.pointer == pointer


def test_sixteen_levels_are_taken() -> None:
    assert strict_json.loads(b"[" * 16 + b"]" * 16)


def test_an_escaped_backslash_before_u0000_is_no_null_character() -> None:
    assert strict_json.loads(b'"\\\\u0000"') == "\\u0000"


def test_a_field_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'b' is given twice"):
        strict_json.refuse_duplicates(b'{"a": {"b": 1, "c": 2, "b": 3}}')


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"a": 1, "a": 1}', "/a"),
        (b'{"a": 1, "\\u0061": 2}', "/a"),
        (b'{"inputs": [[1], [2]], "inputs": [[3]]}', "/inputs"),
        (b'{"inputs": [{"x": 1}, {"x": 1, "y": 2, "x": 3}]}', "/inputs/1/x"),
        (b'{"inputs": [[[{"a/b": 1, "a/b": 2}]]]}', "/inputs/0/0/0/a~1b"),
        (b'{"inputs": [1, {"x": 1, "x": 2}]}', "/inputs/1/x"),
        (b'{"text": "a: b", "model": "m", "model": "m"}', "/model"),
        (b'[{"a": 1, "a": 2}]', "/0/a"),
    ],
)
def test_a_field_given_twice_is_found_in_a_body_that_was_read_before(body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        strict_json.refuse_duplicates_of(orjson.loads(body), body)
    assert (caught.value.pointer, caught.value.specific_code) == (pointer, "duplicate_field")


@given(JSON)
def test_what_has_every_field_once_is_never_refused(value: Any) -> None:
    strict_json.refuse_duplicates_of(value, orjson.dumps(value))


def test_texts_may_look_like_fields_that_are_given_twice() -> None:
    value = {"model": "m", "inputs": ['"model": 1, "model": 2', ":::"]}
    strict_json.refuse_duplicates_of(value, orjson.dumps(value))


@pytest.mark.parametrize(("name", "part"), [("a/b", "a~1b"), ("a~b", "a~0b"), ("~1", "~01")])
def test_names_are_escaped_as_rfc_6901_says(name: str, part: str) -> None:
    assert strict_json.escaped(name) == part
