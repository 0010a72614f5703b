"""Cell: whether JSON follows a JSON Schema, by `jsonschema`.

A schema's patterns are searched by backtracking, which a text can make endless: so it happens in here.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

__all__ = ["prepare"]

Verdict = Literal["valid", "invalid", "too-deep"]


def prepare(settings: Mapping[str, Any]) -> Callable[[str], Verdict]:
    """Read the schema once, and return what judges."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = settings["schema"]
    # A registry of its own: the default one fetches what a schema refers to.
    validator = validator_for(schema)(schema, registry=Registry())

    def judge(text: str) -> Verdict:
        try:
            return "valid" if validator.is_valid(json.loads(text)) else "invalid"
        except (RecursionError, MemoryError):
            return "too-deep"

    return judge
