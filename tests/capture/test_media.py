from __future__ import annotations

import base64
from typing import Any

import pytest

from capture.ids import content_hash
from capture.media import media_of
from capture.messages import Media

PIXELS = b"\x89PNG pixels"
DATA = base64.b64encode(PIXELS).decode()
HASH = content_hash(PIXELS)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("image_url", {"url": f"data:image/png;base64,{DATA}", "detail": "low"}),
        ("image_url", f"data:image/png;base64,{DATA}"),
        ("input_image", {"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"}),
        ("image", {"type": "base64", "media_type": "image/png", "data": DATA}),
    ],
    ids=["chat", "mistral", "responses", "anthropic"],
)
def test_one_picture_is_one_reference_in_every_protocol(kind: str, content: Any) -> None:
    assert media_of(kind, content) == (Media("image", HASH, "image/png"),)


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("image_url", {"url": "https://x/y.png"}, Media("image", "https://x/y.png")),
        ("input_audio", {"data": DATA, "format": "wav"}, Media("audio", HASH, "wav")),
        ("file", {"file_id": "file_1"}, Media("document", "file:file_1")),
        ("file", {"file_data": f"data:text/plain;base64,{DATA}"}, Media("document", HASH, "text/plain")),
        ("document", {"type": "text", "media_type": "text/plain", "data": "pixels"},
         Media("document", content_hash(b"pixels"), "text/plain")),
        ("document_url", "https://x/y.pdf", Media("document", "https://x/y.pdf")),
        ("image", {"type": "base64", "data": "not base64!"}, Media("image", content_hash(b"not base64!"))),
        ("image_url", "data:,a%20b", Media("image", content_hash(b"a b"))),
    ],
)  # fmt: skip
def test_references_are_read_as_providers_write_them(kind: str, content: Any, expected: Media) -> None:
    assert media_of(kind, content) == (expected,)


@pytest.mark.parametrize("content", [None, 5, {}, [], {"url": 5}, {"image_url": {"url": None}}])
def test_a_part_that_refers_to_nothing_has_no_reference(content: Any) -> None:
    assert media_of("image_url", content) == ()
