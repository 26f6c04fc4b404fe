"""Parts of a message that are not text, by reference: their bytes stay in the stored body."""

from __future__ import annotations

import base64
import binascii
import contextlib
from urllib.parse import unquote_to_bytes

from capture.ids import content_hash
from capture.loose_json import as_object, as_text, compact, whole
from capture.messages import Media

_NAMES = {"image_url": "image", "input_image": "image", "input_audio": "audio", "file": "document", "input_file": "document"}
_KINDS = _NAMES | {"image_generation_call": "image", "document_url": "document", "video_url": "video"}
_LOCATIONS = ("url", "image_url", "file_url", "document_url", "video_url")
_INLINE = ("data", "file_data", "result")


def part_name(kind: str) -> str:
    """The name of a provider's `kind` of part among `Message.other_parts`, which input hashes are made from."""
    return _NAMES.get(kind, kind or "part")


def named_part(name: str, content: object) -> str:
    """The name of a part that is not text, with enough of its content hash to tell two of them apart."""
    return f"{whole(name)}:{content_hash(compact(content).encode('utf-8', 'replace'))[3:15]}"


def media_of(kind: str, content: object) -> tuple[Media, ...]:
    """The reference of a provider's `kind` of part; its `content` is a URL, or an object with one, a file id or inline data."""
    kind = whole(_KINDS.get(kind, kind or "part"))
    if isinstance(content, str):
        return (_located(kind, content, ""),)
    part = as_object(content)
    media_type = as_text(part.get("media_type")) or as_text(part.get("format"))
    for key in _LOCATIONS:
        found = part.get(key)
        url = as_text(found) or as_text(as_object(found).get("url"))
        if url:
            return (_located(kind, url, media_type),)
    for key in _INLINE:
        data = as_text(part.get(key))
        if data:
            is_text = part.get("type") == "text"
            return (
                _located(kind, data, media_type) if data.startswith("data:") else _inline(kind, data, media_type, not is_text),
            )
    id = as_text(part.get("file_id"))
    return (Media(kind, f"file:{whole(id)}", whole(media_type)),) if id else ()


def _located(kind: str, url: str, media_type: str) -> Media:
    if not url.startswith("data:"):
        return Media(kind, whole(url), whole(media_type))
    label, _, data = url[5:].partition(",")
    return _inline(kind, data, label.partition(";")[0] or media_type, label.endswith(";base64"))


def _inline(kind: str, data: str, media_type: str, is_base64: bool) -> Media:
    """`data` by the hash of its bytes; as it stands when it is not the base64 that it should be."""
    raw = data.encode("utf-8", "replace")
    if is_base64:
        with contextlib.suppress(binascii.Error):
            raw = base64.b64decode(raw)
    else:
        raw = unquote_to_bytes(raw)
    return Media(kind, content_hash(raw), whole(media_type))
