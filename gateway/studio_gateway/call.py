"""What a request's body asks for, and the few edits that it may get ★.

A body goes to the engine as it came, but for two fields: the model's name where the engine knows another one, and
``stream_options.include_usage`` where the client did not ask for usage. So the edits are cuts in the text; where fields stand
is looked up only where there is one to make.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from studio_gateway.openai_errors import invalid_body

SPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()
# The paths whose streams carry usage only when asked.
USAGE_ON_REQUEST = frozenset(("/v1/chat/completions", "/v1/completions"))
BATCH = "/v1/chat/completions/batch"
# The paths whose answers are generated, so that each of them has its count of tokens.
GENERATING = USAGE_ON_REQUEST | {BATCH, "/v1/messages", "/v1/responses"}
LONGEST_MODEL_NAME = 1024
ASKS_FOR_USAGE = '"stream_options":{"include_usage":true},'
# Of these a body has one: the gateway and the engine might read two different ones.
ONCE = ("model", "stream", "stream_options")
ONCE_AS_TEXT = tuple(f'"{name}"'.encode() for name in ONCE)
# A letter or a low line, written so that the field's name is not there as text.
ESCAPED_LETTER = re.compile(rb"\\u00[5-7]")
# Half of a character, which JSON can hold and no other text can.
HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Field:
    """A top-level field: its value, and where in the text the value stands."""

    value: Any
    start: int
    end: int


@dataclass(slots=True)
class Call:
    """One body, read; it is not changed. ``model`` is empty where the body does not say."""

    body: bytes
    path: str
    model: str = ""
    stream: bool = False
    # A gateway's own event of usage has to be taken out of the stream again.
    adds_usage: bool = False
    # The JSON's top-level fields by name; empty for other kinds of body.
    document: Mapping[str, Any] = field(default_factory=dict)
    # Where a form names its model.
    form_model: Field | None = None

    def for_engine(self, engine_model: str) -> bytes:
        """The body with the edits that it needs."""
        renames = bool(self.model) and engine_model != self.model
        if not renames and not self.adds_usage:
            return self.body
        if self.form_model is not None:
            return self.body[: self.form_model.start] + engine_model.encode() + self.body[self.form_model.end :]
        if not renames and "stream_options" not in self.document:
            behind_brace = self.body.index(b"{") + 1
            return self.body[:behind_brace] + ASKS_FOR_USAGE.encode() + self.body[behind_brace:]
        text = self.body.decode("utf-8")
        fields = _top_level(text)
        edits = [(fields["model"].start, fields["model"].end, json.dumps(engine_model))] if renames else []
        if self.adds_usage:
            edits.append(_usage_edit(text, fields.get("stream_options")))
        for start, end, replacement in sorted(edits, reverse=True):
            text = text[:start] + replacement + text[end:]
        return text.encode("utf-8")

    def values(self) -> dict[str, Any]:
        """The JSON's top-level fields as plain values."""
        return dict(self.document)


def _usage_edit(text: str, given: Field | None) -> tuple[int, int, str]:
    if given is None:
        behind_brace = text.index("{") + 1
        return behind_brace, behind_brace, ASKS_FOR_USAGE
    # Without include_usage this option had no effect; with it, every event would change.
    kept = {name: value for name, value in (given.value or {}).items() if name != "continuous_usage_stats"}
    return given.start, given.end, json.dumps(kept | {"include_usage": True})


def read_call(path: str, content_type: str, body: bytes, depth_limit: int = 200) -> Call:
    """Read a request's ``body``; raises ApiError where it contradicts its own type, or nests deeper than ``depth_limit``."""
    kind = content_type if content_type == "application/json" else content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _read_form(path, content_type, body)
    # Many clients leave out the type, or name a wrong one; what looks like an object is read as one.
    if kind == "application/json" or kind.endswith("+json") or body.lstrip()[:1] == b"{":
        return _read_json(path, body, depth_limit)
    return Call(body, path)


def _read_json(path: str, body: bytes, depth_limit: int) -> Call:
    if not body or body.isspace():
        return Call(body, path)
    try:
        text = body.decode("utf-8")
        document = _document(text)
        if not isinstance(document, dict):
            raise invalid_body("The JSON body of your request has to be an object.")
        if _may_repeat_a_field(body):
            _top_level(text)
    except UnicodeDecodeError as error:
        raise invalid_body("The body is not UTF-8.") from error
    except RecursionError as error:
        raise invalid_body("The JSON in the body is nested too deeply.") from error
    except ValueError as error:
        raise invalid_body(f"We could not parse the JSON body of your request: {error}.") from error
    if _is_deeper(document, body, depth_limit):
        raise invalid_body(f"The JSON in the body is nested more than {depth_limit} deep.")
    model = document.get("model", "")
    if not isinstance(model, str) or len(model) > LONGEST_MODEL_NAME or HALF_CHARACTER.search(model) is not None:
        raise invalid_body("'model' has to be a string that names a model.", "model")
    adds_usage = _is_set(document, "stream") and not _asks_for_usage(document) and path in USAGE_ON_REQUEST
    stream = document.get("stream") is True
    return Call(body, path, model, stream=stream, adds_usage=adds_usage, document=document)


def _is_set(holder: Mapping[str, Any], name: str, within: str = "") -> bool:
    """A field that is true, false or absent. Engines take 1 and "true" for true as well, and others do not: so it is neither."""
    value = holder.get(name)
    if value is None or value is False:
        return False
    if value is True:
        return True
    raise invalid_body(f"'{within}{name}' has to be true or false.", within + name)


def _asks_for_usage(document: Mapping[str, Any]) -> bool:
    options = document.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise invalid_body("'stream_options' has to be an object.", "stream_options")
    return _is_set(options, "include_usage", "stream_options.")


def _document(text: str) -> Any:
    """What ``json.loads`` gives, or raises, in fewer steps where nothing stands around the value."""
    try:
        document, end = DECODER.raw_decode(text)
    except ValueError:
        end = -1
    return document if end == len(text) else json.loads(text)


def _may_repeat_a_field(body: bytes) -> bool:
    """Whether one of the fields that matter here may occur twice: counted as text, which costs next to nothing."""
    return any(body.count(name) > 1 for name in ONCE_AS_TEXT) or (
        b"\\u00" in body and ESCAPED_LETTER.search(body) is not None
    )


def _is_deeper(document: dict[str, Any], body: bytes, limit: int) -> bool:
    """Whether a body, read as ``document``, has more than ``limit`` brackets within brackets."""
    if body.count(b"{") + body.count(b"[") <= limit:
        return False
    level: list[Any] = [document]
    for _ in range(limit):
        inner = (holder.values() if isinstance(holder, dict) else holder for holder in level)
        level = [value for values in inner for value in values if isinstance(value, (dict, list))]
        if not level:
            return False
    return True


def _top_level(text: str) -> dict[str, Field]:
    """The fields of the JSON object in ``text``; raises ValueError or RecursionError."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("it is not an object")
    fields: dict[str, Field] = {}
    at = _skip(text, at + 1)
    closed = text[at : at + 1] == "}"
    while not closed:
        name, at = DECODER.raw_decode(text, at)
        if not isinstance(name, str):
            raise ValueError(f"a field's name is missing at character {at}")  # noqa: TRY004 - the JSON is wrong, no type is
        if name in fields and name in ONCE:
            raise ValueError(f"the field {name!r} occurs twice")
        at = _expect(text, at, ":")
        value, end = DECODER.raw_decode(text, at)
        fields[name] = Field(value, at, end)
        at = _skip(text, end)
        closed = text[at : at + 1] == "}"
        if not closed:
            at = _expect(text, at, ",")
    if _skip(text, at + 1) != len(text):
        raise ValueError("there is text after the object")
    return fields


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"expected {mark!r} at character {at}")
    return _skip(text, at + 1)


def _read_form(path: str, content_type: str, body: bytes) -> Call:
    """Find the form field ``model``: a boundary never occurs inside of a part, so cutting at it cannot cut a file."""
    found = re.search(r'boundary=(?:"([^"]{1,70})"|([^\s;]{1,70}))', content_type, re.IGNORECASE)
    if found is None:
        raise invalid_body("The multipart body has no boundary in its content type.")
    delimiter = b"\r\n--" + (found.group(1) or found.group(2)).encode("latin-1", "replace")
    # The first delimiter has no line before it; positions count in the body itself.
    at = 0 if body.startswith(delimiter[2:]) else body.find(delimiter) + 2
    if at == 1:
        raise invalid_body("The multipart body does not contain its boundary.")
    place: Field | None = None
    at += len(delimiter) - 2
    while body[at : at + 2] != b"--":
        head_end = body.find(b"\r\n\r\n", at)
        end = body.find(delimiter, max(head_end + 2, at))
        if head_end < 0 or end < 0:
            raise invalid_body("The multipart body ends inside of a part.")
        if _names_model(body[at:head_end]):
            if place is not None:
                raise invalid_body("The form field 'model' occurs twice.", "model")
            place = _form_value(body, head_end + 4, end)
        at = end + len(delimiter)
    return Call(body, path) if place is None else Call(body, path, place.value, form_model=place)


def _form_value(body: bytes, start: int, end: int) -> Field:
    try:
        name = body[start:end].decode("utf-8") if end - start <= LONGEST_MODEL_NAME else ""
    except UnicodeDecodeError:
        name = ""
    if not name:
        raise invalid_body("The form field 'model' has to name a model.", "model")
    return Field(name, start, end)


def _names_model(head: bytes) -> bool:
    """Whether a part's headers say that it is the field ``model``; a file's name cannot pretend to be."""
    for line in head.split(b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        if name.strip().lower() == "content-disposition":
            disposition = Message()
            disposition["content-disposition"] = value.strip()
            return disposition.get_param("name", header="content-disposition") == "model"
    return False
