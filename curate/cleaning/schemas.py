"""Whether answers and arguments follow the JSON schemas that a request named.

Schemas come from captured traffic, so they are hostile: nothing is fetched, no regular expression of theirs is run, and the
work for one answer is bounded. What cannot be judged for such a reason follows its schema as far as anybody knows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from capture.loose_json import parse

_MOST_STEPS = 10_000
_MOST_CHARACTERS = 64_000
_NOT_RUN = frozenset(("pattern", "patternProperties", "format", "$dynamicRef", "$recursiveRef"))

Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


def breaks(schema: str, value: object) -> bool:
    """True when `value` does not follow `schema` (JSON text), which itself is sound and can be judged.

    The draft is the one that the schema names, else 2020-12. `pattern` and `format` do not count; `nullable` of OpenAPI does.
    """
    judge = _judge(schema)
    return judge is not None and judge(value)


@lru_cache(maxsize=256)
def _judge(text: str) -> Callable[[object], bool] | None:
    """What says whether a value breaks the schema; None for a schema that is broken or that nobody can judge."""
    if len(text) > _MOST_CHARACTERS or '"patternProperties"' in text:
        return None
    import jsonschema
    from jsonschema.exceptions import UnknownType
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        schema = parse(text.encode("utf-8", "replace"))
        draft = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        draft.check_schema(schema)
    except (ValueError, TypeError, jsonschema.SchemaError, RecursionError):
        return None
    steps = _Steps()
    keywords = {name: _hold if name in _NOT_RUN else steps.counted(run) for name, run in draft.VALIDATORS.items()}
    keywords["uniqueItems"] = steps.counted(_unique)
    validator = jsonschema.validators.extend(draft, keywords)(schema, registry=Registry())

    def judged(value: object) -> bool:
        steps.left = _MOST_STEPS
        try:
            return next(validator.iter_errors(value), None) is not None
        except (_TooMuchError, Unresolvable, UnknownType, RecursionError, ArithmeticError):
            return False

    return judged


class _TooMuchError(Exception):
    """The schema asks for more work than an answer is worth."""


class _Steps(threading.local):
    """How many keywords may still be looked at, by this thread: a schema is judged by several at once."""

    left = 0

    def counted(self, run: Keyword) -> Keyword:
        def keyword(validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
            self.left -= 1
            if self.left < 0:
                raise _TooMuchError
            if instance is None and schema.get("nullable") is True:
                return
            yield from run(validator, wanted, instance, schema) or ()

        return keyword


def _hold(validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> None:
    """A keyword that is not judged."""


def _unique(validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """uniqueItems in linear time; jsonschema compares every two objects."""
    import jsonschema

    if wanted and isinstance(instance, list) and len(set(map(_canonical, instance))) < len(instance):
        yield jsonschema.ValidationError("items are not unique")


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
