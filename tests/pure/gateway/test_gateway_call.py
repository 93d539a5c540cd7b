"""What bodies say, and that edits touch nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_gateway.call import read_call
from studio_gateway.openai_errors import ApiError

CHAT = "/v1/chat/completions"
JSON = "application/json"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
reserved = ("model", "stream", "stream_options")
bodies = st.dictionaries(st.text(max_size=10).filter(lambda name: name not in reserved), values, max_size=6)
names = st.text(min_size=1, max_size=40)


@given(bodies, names, st.sampled_from([None, 2]), st.booleans())
def test_body_without_edits_is_the_same_object(body: dict[str, Any], model: str, indent: int | None, ascii_only: bool):
    data = json.dumps(body | {"model": model}, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    call = read_call(CHAT, JSON, data)
    assert call.model == model
    assert call.values() == json.loads(data)
    assert call.for_engine(model) is data


@given(bodies, names, names, st.sampled_from([None, 2]))
def test_renaming_changes_the_model_and_nothing_else(body: dict[str, Any], model: str, other: str, indent: int | None):
    data = json.dumps(body | {"model": model} | {"z": 1.50}, indent=indent).encode()
    sent = read_call(CHAT, JSON, data).for_engine(other)
    assert json.loads(sent) == json.loads(data) | {"model": other}


@given(
    bodies,
    st.one_of(st.none(), st.just({}), st.just({"include_usage": False}), st.just({"continuous_usage_stats": True})),
)
def test_usage_is_asked_for_and_nothing_else_changes(body: dict[str, Any], options: dict[str, Any] | None):
    asked: dict[str, Any] = body | {"model": "m", "stream": True}
    if options is not None:
        asked["stream_options"] = options
    call = read_call(CHAT, JSON, json.dumps(asked).encode())
    assert call.adds_usage
    assert json.loads(call.for_engine("m")) == asked | {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"stream": False}),
        (CHAT, {}),
        (CHAT, {"stream": True, "stream_options": {"include_usage": True}}),
        ("/v1/responses", {"stream": True}),
        ("/v1/messages", {"stream": True}),
    ],
)
def test_usage_is_not_asked_for_where_it_need_not_or_cannot_be(path: str, fields: dict[str, Any]):
    data = json.dumps({"model": "m"} | fields).encode()
    call = read_call(path, JSON, data)
    assert not call.adds_usage
    assert call.for_engine("m") == data


def test_both_edits_together_keep_the_rest_to_the_byte():
    data = b' { "stream" : true , "stream_options":null,"model":"a", "n":1.50, "u":"\\u00e9" } '
    sent = read_call(CHAT, JSON, data).for_engine("b")
    assert (
        sent == b' { "stream" : true , "stream_options":{"include_usage": true},"model":"b", "n":1.50, "u":"\\u00e9" } '
    )


@given(st.binary(max_size=60), st.sampled_from([JSON, "", "multipart/form-data; boundary=b", "audio/wav"]))
def test_any_bytes_are_read_or_refused(data: bytes, kind: str):
    try:
        call = read_call(CHAT, kind, data)
    except ApiError as error:
        refused = error
        call = None
    assert refused.status == 400 if call is None else call.for_engine(call.model) == data


@given(st.text(max_size=80))
def test_json_is_read_as_the_standard_library_reads_it(text: str):
    data = text.encode("utf-8", "replace")
    try:
        expected = json.loads(data)
    except ValueError:
        expected = None
    if not isinstance(expected, dict) or "model" in expected:
        return
    assert read_call(CHAT, JSON, data).values() == expected


def a_form(*parts: tuple[str, bytes], boundary: str = "xyz") -> tuple[str, bytes]:
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
        for disposition, content in parts
    )
    return f'multipart/form-data; boundary="{boundary}"', body + f"--{boundary}--\r\n".encode()


def test_form_field_is_found_among_files_and_renamed_in_place():
    file = b'\xff\x00--xyz\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\nwrong'
    kind, body = a_form(('name="file"; filename="a; name=model"', file), ('name="model"', b"tiny"), ('name="n"', b"1"))
    call = read_call("/v1/audio/transcriptions", kind, body)
    assert call.model == "tiny"
    assert call.for_engine("tiny") is body
    assert call.for_engine("org/größe") == body.replace(b"\r\ntiny\r\n", "\r\norg/größe\r\n".encode())


@given(st.binary(max_size=200))
def test_files_never_pass_for_the_field(content: bytes):
    if b"\r\n--xyz" in content or content.startswith(b"--xyz"):
        return
    kind, body = a_form(('name="file"; filename="model"', content), ("name=model", b"tiny"))
    assert read_call("/v1/audio/transcriptions", kind, body).model == "tiny"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=xyz", b"nothing of it"),
        ("multipart/form-data; boundary=xyz", b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\nti'),
        a_form(('name="model"', b"a"), ('name="model"', b"b")),
        a_form(('name="model"', b"\xff")),
        a_form(('name="model"', b"")),
        a_form(('name="model"', b"x" * 2000)),
    ],
)
def test_broken_forms_are_refused(kind: str, body: bytes):
    with pytest.raises(ApiError) as caught:
        read_call("/v1/audio/transcriptions", kind, body)
    assert caught.value.code == "invalid_body"


def test_form_without_a_model_and_other_bodies_have_none():
    kind, body = a_form(('name="file"; filename="a"', b"x"))
    assert read_call("/v1/files", kind, body).model == ""
    assert read_call("/v1/files", "application/octet-stream", b"\x00\x01").model == ""


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream": True, "stream_options": "nonsense"}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": "false"}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_usage": 0}}, "stream_options.include_usage"),
    ],
)
def test_what_engines_may_read_otherwise_is_refused(fields: dict[str, Any], param: str):
    with pytest.raises(ApiError) as refused:
        read_call(CHAT, JSON, json.dumps({"model": "m"} | fields).encode())
    assert (refused.value.status, refused.value.param) == (400, param)


def test_null_is_as_good_as_absent():
    call = read_call(CHAT, JSON, b'{"model": "m", "stream": null, "stream_options": {"include_usage": null}}')
    assert not call.stream
    assert read_call(
        CHAT, JSON, b'{"model": "m", "stream": true, "stream_options": {"include_usage": null}}'
    ).adds_usage


@pytest.mark.parametrize("name", ["\\ud800", "a\\udfffb", "\\udc00\\ud800"])
def test_half_a_character_names_no_model(name: str):
    with pytest.raises(ApiError, match="'model' has to be a string"):
        read_call(CHAT, JSON, f'{{"model": "{name}"}}'.encode())
