"""Filing: what a request or answer is remembered as, so that what was paid for is found by later versions too."""

from collections.abc import Mapping

from prefkit.engines import Completion, LogProb, Request

__all__ = ["filed"]

_LATER: Mapping[type, tuple[int, ...]] = {Request: (1, 2), Completion: (1,), LogProb: (1,)}
"""How many fields each version added, the newest first. To add one is to put a number in front."""


def filed(value: object) -> object:
    """Return a request or answer without the fields that came later, as far as they say nothing.

    So answers that were paid for before there were such fields are still found.
    """
    if not isinstance(value, Request | Completion | LogProb):
        return value
    plain, silent = tuple(value), tuple(value._field_defaults.values())
    for added in _LATER[type(value)]:
        if plain[-added:] != silent[-added:]:
            break
        plain, silent = plain[:-added], silent[:-added]
    return plain
