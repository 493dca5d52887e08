"""What all models share: tolerance, plain JSON and what an answer cost."""

# No `from __future__ import annotations` in the models: msgspec would have to look each name up.

import re
from typing import Annotated, Any, Final, Self, TypeVar

import msgspec

from asyncsfk._text import abridged
from asyncsfk.errors import Details, SfkError, UndecodableError
from asyncsfk.usage import Usage

T = TypeVar("T")

Id = Annotated[str, msgspec.Meta(min_length=1)]
"""The one field that the API never leaves out."""


def _encode_foreign(value: object) -> Any:  # noqa: ANN401 - a hook of msgspec
    if isinstance(value, SfkError):
        return value.to_dict()
    raise NotImplementedError


def _decode_foreign(kind: type, value: Any) -> Any:  # noqa: ANN401 - a hook of msgspec
    if issubclass(kind, SfkError):
        return SfkError.from_dict(value)
    raise NotImplementedError


NOT_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What msgspec raises when it is given anything but the JSON that it was told to expect."""

_HALF: Final = re.compile(
    # Only after an even number of backslashes: after an odd number this one is itself escaped.
    rb"(?<!\\)((?:\\\\)*)(?:"
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|"
    rb"(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)

_encoder = msgspec.json.Encoder(enc_hook=_encode_foreign)
_decoder = msgspec.json.Decoder()


def decode(decoder: msgspec.json.Decoder[T], text: bytes | msgspec.Raw) -> T:
    """Decode JSON, with U+FFFD in place of each half of a surrogate pair.

    JavaScript can cut a text in the middle of an emoji, and then writes the half as an escape. RFC
    8259, section 8.2, leaves open what a reader makes of it, and msgspec refuses it.

    Raises:
        Exception: One of `NOT_JSON`, or whatever a type of the caller's raises.
    """
    try:
        return decoder.decode(text)
    except msgspec.DecodeError:
        mended = _HALF.sub(rb"\1\\ufffd", text)
        if mended == text:
            raise
        return decoder.decode(mended)


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all models: frozen, snake_case here, the API's camelCase in JSON.

    Unknown fields are ignored, since the API may add some at any time. Nearly every field may be
    missing or null and is then ``None``; a value of a wrong type is an error.
    """

    def to_json(self) -> bytes:
        """Return this as JSON, with the API's field names; `from_json` reads back an equal one."""
        return _encoder.encode(self)

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain JSON data: dicts, lists, strings, numbers, booleans, ``None``.

        Raises:
            UndecodableError: The details of a product, decoded only now, are not valid JSON.
        """
        data = self.to_json()
        try:
            plain: dict[str, Any] = decode(_decoder, data)
        except NOT_JSON as error:
            raise UndecodableError(
                f"this holds no proper JSON: {error}", Details(body=data)
            ) from error
        return plain

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read back what `to_json` wrote.

        Args:
            data: JSON, as text or UTF-8.

        Raises:
            UndecodableError: ``data`` is not JSON, or not of this model; ``body`` holds it.
        """
        try:
            return msgspec.json.decode(data, type=cls, dec_hook=_decode_foreign)
        except NOT_JSON as error:
            body = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            raise UndecodableError(
                f"this is not the JSON of {cls.__name__}: {error}", Details(body=body)
            ) from error


class Answer(Model, frozen=True, kw_only=True):
    """What every answer of the API says besides its data.

    Attributes:
        request_id: The API's id of the request, for their support.
        cached: Whether the API answered from its cache (at full price).
        usage: What this answer cost, including failed attempts before it.
    """

    request_id: str | None = None
    cached: bool = False
    usage: Usage = Usage()

    def __repr__(self) -> str:
        return abridged(self)


def data_type(answer: type[Answer]) -> type[msgspec.Struct]:
    """Return a struct for the ``data`` of an answer whose own fields are just those of its data.

    If ``data`` were decoded into the answer itself, a field that the API adds one day, named
    ``usage`` say, would be taken for ours.
    """
    fields = [
        (field.name, field.type, msgspec.field(default=field.default))
        for field in msgspec.structs.fields(answer)
        if field.name not in Answer.__struct_fields__
    ]
    return msgspec.defstruct(
        f"{answer.__name__}Data", fields, frozen=True, kw_only=True, rename="camel"
    )
