"""Turns pydantic's errors into problems with JSON pointers, plain sentences and the nearest known name.

pydantic says where and what; the names that would have been right stand in the JSON schema.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.strict_json import escaped
from models.errors import FieldProblem, suggest

Schema = Mapping[str, Any]
LONGEST_ECHO = 80


@dataclass(frozen=True)
class Place:
    """Where an error is: its pointer, what the schema says there and one level up, and the union it is in."""

    pointer: str
    schema: Schema
    parent: Schema
    union: str | None
    union_schema: Schema
    depth_in_union: int


def explain(errors: Iterable[Mapping[str, Any]], schema: Schema) -> tuple[FieldProblem, ...]:
    """The problems behind pydantic's errors. `schema` is that of the whole value, with its `$defs`."""
    located = [(error, locate(error["loc"], schema)) for error in errors]
    unions: dict[str | None, list[tuple[Mapping[str, Any], Place]]] = defaultdict(list)
    for error, place in located:
        unions[place.union].append((error, place))
    return tuple(
        problem
        for union, group in unions.items()
        for problem in ([_plain(*at, schema) for at in group] if union is None else _of_union(group, schema))
    )


def locate(loc: Sequence[str | int], root: Schema) -> Place:
    """Follow pydantic's `loc` through the schema; tags of unions are in the `loc` but not in the pointer."""
    pointer, union, depth = "", None, 0
    parent: Schema = {}
    union_schema: Schema = {}
    schema = _resolved(root, root)
    for index, part in enumerate(loc):
        if part == "[key]":
            continue
        if isinstance(part, str) and part in _tags(schema):
            schema = _resolved({"$ref": _tags(schema)[part]}, root)
            continue
        if isinstance(part, str) and len(members := _members(schema, root)) > 1:
            union, union_schema, depth = pointer, schema, len(loc) - index - 1
            schema = next((member for member in members if member.get("title") == part), {})
            continue
        parent, schema = schema, _resolved(_child(schema, part), root)
        pointer += f"/{escaped(str(part))}"
    return Place(pointer, schema, parent, union, union_schema, depth)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """The schema itself: references followed, and what may be null taken for what it else is."""
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target.get(part, {})
        return _resolved(target, root)
    members = _members(schema, root)
    return members[0] if len(members) == 1 else schema


def _members(schema: Schema, root: Schema) -> list[Schema]:
    """The members of an untagged union but for null; a tagged one has none."""
    if "discriminator" in schema:
        return []
    return [_resolved(member, root) for member in schema.get("anyOf", ()) if member.get("type") != "null"]


def _tags(schema: Schema) -> Mapping[str, str]:
    mapping: Mapping[str, str] = schema.get("discriminator", {}).get("mapping", {})
    return mapping


def _child(schema: Schema, part: str | int) -> Schema:
    found: Any
    if isinstance(part, int):
        positions = schema.get("prefixItems", ())
        found = positions[part] if part < len(positions) else schema.get("items", {})
    else:
        found = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
    return found if isinstance(found, Mapping) else {}


def _plain(error: Mapping[str, Any], place: Place, root: Schema) -> FieldProblem:
    """One error as one problem."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            name = str(error["loc"][-1])
            return _unknown_field(place.pointer, name, place.parent.get("properties", {}))
        case "missing":
            return FieldProblem(place.pointer, "missing", f"{_name(place.pointer)} is required.")
        case "literal_error" if choices := place.schema.get("enum") or _constant(place.schema):
            return _unknown_value(place.pointer, _noun(place.pointer), error["input"], choices)
        case "union_tag_invalid":
            field = context["discriminator"].strip("'")
            return _unknown_value(f"{place.pointer}/{field}", field, context["tag"], _tags(place.schema))
        case "union_tag_not_found":
            field = context["discriminator"].strip("'")
            known = ", ".join(sorted(_tags(place.schema)))
            detail = f"The field {field!r} is required. Known: {known}."
            return FieldProblem(f"{place.pointer}/{field}", "missing", detail)
        case "int_type" if _is_huge(error["input"]):
            return _out_of_bounds(place, error["input"])
        case "value_error":
            return FieldProblem(place.pointer, "invalid_value", _sentence(str(context["error"])))
        case kind:
            return FieldProblem(place.pointer, kind, f"{_name(place.pointer)}: {_sentence(error['msg'])}")


def _is_huge(value: object) -> bool:
    """Whether this is a whole number that orjson had to read as a float."""
    return isinstance(value, float) and abs(value) >= 2**63 and value.is_integer()


def _out_of_bounds(place: Place, value: float) -> FieldProblem:
    kind, word, bound = (
        ("less_than_equal", "less", place.schema.get("maximum", 2**63 - 1))
        if value > 0
        else ("greater_than_equal", "greater", place.schema.get("minimum", -(2**63)))
    )
    detail = f"{_name(place.pointer)}: Input should be {word} than or equal to {bound}."
    return FieldProblem(place.pointer, kind, detail)


def _unknown_field(pointer: str, name: str, known: Iterable[str]) -> FieldProblem:
    return FieldProblem(
        pointer, "unknown_field", f"Unknown field {_short(name)}. {suggest(name[:LONGEST_ECHO], known)}"
    )


def _unknown_value(pointer: str, field: str, value: object, choices: Iterable[str]) -> FieldProblem:
    known = [str(choice) for choice in choices]
    hint = suggest(value[:LONGEST_ECHO], known) if isinstance(value, str) else f"Known: {', '.join(known)}."
    return FieldProblem(pointer, "unknown_value", f"Unknown {field} {_short(value)}. {hint}")


def _of_union(group: list[tuple[Mapping[str, Any], Place]], root: Schema) -> Iterator[FieldProblem]:
    """pydantic reports what every member of a union misses; the client meant one of them."""
    place = group[0][1]
    members = _members(place.union_schema, root)
    known = {name for member in members for name in member.get("properties", {})}
    strange = {
        at.pointer: str(error["loc"][-1])
        for error, at in group
        if error["type"] == "extra_forbidden" and error["loc"][-1] not in known
    }
    if strange:
        yield from (_unknown_field(pointer, name, known) for pointer, name in strange.items())
        return
    deeper = [
        (error, at)
        for error, at in group
        if at.depth_in_union and error["type"] not in ("extra_forbidden", "missing")
    ]
    if deeper:
        yield from (_plain(error, at, root) for error, at in deeper)
        return
    forms = " or ".join(dict.fromkeys(_forms(members)))
    pointer = place.union or ""
    yield FieldProblem(pointer, "invalid_value", f"{_name(pointer)} must be {forms}.")


def _forms(members: Sequence[Schema]) -> Iterator[str]:
    """What a value may look like; of objects that each have one field, the fields together."""
    alike = [next(iter(member["properties"])) for member in members if len(member.get("properties", ())) == 1]
    for member in members:
        if len(member.get("properties", ())) != 1:
            yield _form(member)
    if alike:
        *others, last = map(repr, alike)
        yield "an object with " + (f"{', '.join(others)} or {last}" if others else last)


def _form(schema: Schema) -> str:
    """What a value of this schema looks like."""
    if "properties" in schema:
        return "an object with " + ", ".join(map(repr, schema["properties"]))
    choices = schema.get("enum") or _constant(schema)
    kinds = {
        "string": "a text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
    }
    return ", ".join(map(repr, choices)) if choices else kinds.get(schema.get("type", ""), "something else")


def _constant(schema: Schema) -> list[str]:
    return [schema["const"]] if "const" in schema else []


def _name(pointer: str) -> str:
    """The last name in a pointer, for a sentence."""
    parent, _, last = pointer.rpartition("/")
    if last.isdecimal():
        return f"Item {last} of {_name(parent)}"
    name = last.replace("~1", "/").replace("~0", "~")
    return repr(name[:LONGEST_ECHO]) if name else "The body"


def _noun(pointer: str) -> str:
    """The last name in a pointer that is not a number: 'augment' in '/training/augment/1'."""
    return next((part for part in reversed(pointer.split("/")) if part and not part.isdecimal()), "value")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_ECHO else text[:LONGEST_ECHO] + "…"


def _sentence(message: str) -> str:
    text = message[:1].upper() + message[1:]
    return text if text.endswith(".") else f"{text}."
