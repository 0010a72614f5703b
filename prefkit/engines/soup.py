"""Soup: the average of two models' weights, as a reference that stands between two ways of tuning one base.

Averages make sense inside one basin only: both models must come from the same base, which shows in an equal
architecture and tokenizer. Anything else is refused, since the average of unrelated weights is noise.
Source: SALSA: Soup-based Alignment Learning for Stronger Adaptation in RLHF (2024).
"""

from typing import TYPE_CHECKING, Any

from prefkit.errors import EngineError

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["blend", "check_alike"]

_NO_ARCHITECTURE = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")


def blend(network: "Module", other: "Module", weight: float) -> None:
    """Make the weights of `network` (1 - weight) of its own and `weight` of the other's, in place.

    Computed in float32 whatever the weights are stored in. Weights that are tied count once.
    """
    import torch

    theirs = dict(other.named_parameters())
    with torch.no_grad():
        for name, mine in network.named_parameters():
            mine.copy_(torch.lerp(mine.float(), theirs[name].float().to(mine.device), weight))


def check_alike(
    network: "PreTrainedModel",
    other: "PreTrainedModel",
    tokenizers: "tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]",
    names: str,
) -> None:
    """Raise EngineError unless the two have the same architecture, vocabulary and chat template."""
    one, two = tokenizers
    shapes = [{name: tuple(p.shape) for name, p in each.named_parameters()} for each in (network, other)]
    settings = [_architecture(each.config.to_dict()) for each in (network, other)]
    different = sorted(key for key in {*settings[0], *settings[1]} if _differs(key, settings))
    if type(network) is not type(other) or shapes[0] != shapes[1] or different:
        told = f": '{different[0]}' differs" if different else ""
        what = f"the models of the soup {names} have different architectures{told}"
    elif one.get_vocab() != two.get_vocab() or one.chat_template != two.chat_template:
        what = f"the models of the soup {names} have different vocabularies or chat templates"
    else:
        return
    raise EngineError(what, hint="average two models that were tuned from the same base")


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    """Return what of a config decides what is computed: not names, number formats or special tokens."""
    return {
        key: value
        for key, value in config.items()
        if key not in _NO_ARCHITECTURE and not key.endswith(("_token_id", "_token_ids"))
    }


def _differs(key: str, settings: list[dict[str, Any]]) -> bool:
    absent = object()
    return bool(settings[0].get(key, absent) != settings[1].get(key, absent))
