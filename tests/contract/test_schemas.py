"""The schemas and strategies themselves: they accept what is right, and refuse what is not."""

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from tests.contract.schemas import ANSWERS, CODES, failure
from tests.contract.strategies import bodies, changed, places, whole, without, wrong_for

# This tests the tests' own tools, which are the same for every version.
pytestmark = pytest.mark.large

SCHEMAS = ANSWERS | {str(status): failure(status) for status in CODES}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_schema_is_a_json_schema(schema):
    """Each schema is valid in its own language."""
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_generated_bodies_are_valid_but_for_new_words(schema):
    """A generated body breaks its schema only by words that the API may add."""
    validator = Draft202012Validator(schema)

    @settings(max_examples=40)
    @given(body=bodies(schema))
    def check(body):
        errors = validator.iter_errors(body)
        assert [error for error in errors if error.validator != "enum"] == []

    check()


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_damage_is_seen(schema):
    """A body with everything is valid; a wrong type or a missing field anywhere in it is not."""
    validator = Draft202012Validator(schema)
    body = whole(schema)
    validator.validate(body)
    for path, below in places(body, schema):
        for wrong in wrong_for(below):
            assert not validator.is_valid(changed(body, path, wrong)), (path, wrong)
    for key in schema["required"]:
        assert not validator.is_valid(without(body, (key,)))
