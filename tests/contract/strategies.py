"""Bodies of these schemas: one that has everything, random ones, and small damage to them."""

import itertools

from hypothesis import strategies as st

from tests.contract.schemas import MOMENT, WEB

#: Over 64 bits: nothing bounds the API's integers.
BIG = 10**20

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-BIG, BIG) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
#: Fields that no schema knows.
news = st.dictionaries(texts.map("x-{}".format), junk, max_size=2)


def bodies(schema):
    """Values of a schema: known and new words, every field or only the required, new fields."""
    values = [KINDS[kind](schema) for kind in schema["type"] if kind != "null"]
    # Nulls are rare, since nothing below them is tested.
    nulls = [st.none()] if "null" in schema["type"] else []
    return st.one_of([*values * 4, *nulls])


def records(schema):
    required = {*schema["required"]}
    fields = {name: bodies(field) for name, field in schema["properties"].items()}
    known = st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )
    return st.builds(lambda new, old: new | old, news, known)


def strings(schema):
    if "enum" in schema:
        return st.sampled_from([one for one in schema["enum"] if one]) | texts
    if schema == MOMENT:
        return st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
    if schema == WEB:
        return texts.map("https://{}".format)
    filled = schema.get("minLength", 0)
    return texts.filter(lambda text: len(text) >= filled)


def integers(schema):
    return st.integers(schema.get("minimum", -BIG), schema.get("maximum", BIG))


def numbers(schema):
    least = schema.get("minimum", -BIG)
    return st.floats(least, BIG) | st.integers(least, BIG)


KINDS = {
    "object": records,
    "array": lambda schema: st.lists(bodies(schema["items"]), max_size=2),
    "string": strings,
    "integer": integers,
    "number": numbers,
    "boolean": lambda _: st.booleans(),
}


def whole(schema, numbers=None):  # noqa: PLR0911 - one for each kind
    """Make a body with every field, one item in every list, a new field in every object.

    No two texts in it are the same, and few numbers.
    """
    numbers = numbers or itertools.count(1)
    match schema["type"][0]:
        case "object":
            fields = {name: whole(field, numbers) for name, field in schema["properties"].items()}
            return fields | {"x-new": {"n": next(numbers)}}
        case "array":
            return [whole(schema["items"], numbers)]
        case "string" if "enum" in schema:
            return schema["enum"][0]
        case "string" if schema == MOMENT:
            return f"2026-09-01T00:00:{next(numbers) % 60:02}Z"
        case "string":
            return f"https://example.com/{next(numbers)}"
        case "integer":
            return min(next(numbers), schema.get("maximum", BIG))
        case "number":
            return next(numbers) + 0.5
        case "boolean":
            return True


#: A value of every kind that JSON has (a whole number in a number's place would be right).
SPECIMENS = {
    "object": {"odd": 1},
    "array": [[]],
    "string": "odd",
    "number": 1.5,
    "boolean": True,
}


def wrong_for(schema):
    """Give values of kinds that the schema does not allow; null is never among them."""
    allowed = {*schema["type"]} | ({"number"} if "integer" in schema["type"] else set())
    fraction = [SPECIMENS["number"]] if "integer" in schema["type"] else []
    return [value for kind, value in SPECIMENS.items() if kind not in allowed] + fraction


def places(body, schema, path=()):
    """Walk a body: give the path and schema of each field and item that the schema knows."""
    if isinstance(body, dict):
        inner = [(key, schema["properties"][key]) for key in body if key in schema["properties"]]
    elif isinstance(body, list):
        inner = [(index, schema["items"]) for index in range(len(body))]
    else:
        inner = []
    for key, below in inner:
        yield (*path, key), below
        yield from places(body[key], below, (*path, key))


def changed(body, path, value):
    """Give a copy of a body with another value at a path."""
    return rebuilt(body, path, lambda holder, key: holder | {key: value})


def without(body, path):
    """Give a copy of a body with the field at a path left out."""
    return rebuilt(body, path, lambda holder, key: {k: v for k, v in holder.items() if k != key})


def rebuilt(body, path, change):
    key, *rest = path
    if rest:
        value = rebuilt(body[key], rest, change)
        change = lambda holder, key: holder | {key: value}  # noqa: E731
    if isinstance(body, list):
        return list(change(dict(enumerate(body)), key).values())
    return change(body, key)
