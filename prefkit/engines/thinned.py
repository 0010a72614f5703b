"""Thinned: a reward model asked several times, each time with some of its units dropped, to learn how sure it is.

What a trained dropout layer does at random for every number, a pass does once for every unit: a unit is dropped at all
tokens of all texts, or at none. So each pass is one smaller network, whose scores of chosen and rejected compare, and
a score depends on its text, the model and the seed alone: not on its batch, its padding or its device.

Many language models are trained without dropout. For those the share of what enters the reward head that is to be
dropped has to be said; a model in which nothing would be dropped is refused, since all its passes would agree.
Source: Gal and Ghahramani (2016), A Theoretically Grounded Application of Dropout, for one mask over all positions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from prefkit.engines import Answers, Conversation, Engines, Failure, Model, in_order
from prefkit.errors import EngineError
from prefkit.rng import draw_seed

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

__all__ = ["Thinned", "ThinnedRewards", "by_pass", "dropped", "thinned_rewards"]


class Thinned(NamedTuple):
    """One score wanted: of which conversation, and by which smaller network."""

    conversation: Conversation
    seed: int
    """Which units are dropped: those of one seed are the same for every conversation."""
    head: float = 0.0
    """Share of what enters the reward head that is dropped, beside what the model's own dropout layers drop."""


@runtime_checkable
class ThinnedRewards(Protocol):
    """Scores responses with a reward model of which some units are dropped."""

    def thinned_rewards(self, model: Model, passes: Sequence[Thinned]) -> Answers[tuple[float, ...]]:
        """Yield the raw outputs of the reward head, one number a label. Raises EngineError if nothing is dropped."""
        ...


def thinned_rewards(
    engines: Engines, model: Model, passes: Sequence[Thinned]
) -> list[tuple[float, ...] | Failure]:
    """Return the reward head's outputs or a failure per pass, in order."""
    engines.rewards(model, ())  # which says so if nothing serves the model, or nothing that scores
    engine = engines.serving[model.served_as]
    if not isinstance(engine, ThinnedRewards):
        raise cannot(model)
    return in_order(engine.thinned_rewards(model, passes), len(passes))


def by_pass(passes: Sequence[Thinned]) -> dict[tuple[int, float], list[int]]:
    """Return the positions of what each smaller network is asked."""
    found: dict[tuple[int, float], list[int]] = {}
    for position, one in enumerate(passes):
        found.setdefault((one.seed, one.head), []).append(position)
    return found


def cannot(model: Model) -> EngineError:
    """Say that a model's engine does not drop units."""
    what = f"the engine of model '{model.id}' cannot score with dropout"
    return EngineError(what, hint="place the model on another engine: --engine NAME=transformers")


@contextmanager
def dropped(network: "PreTrainedModel", name: str, seed: int, head: float) -> Iterator[None]:
    """Drop units of a network, by this seed, until the end. Raises EngineError at the end if there were none to drop.

    `name` is what an error calls the model.
    """
    import torch

    masks = _Masks(seed)
    handles: list[RemovableHandle] = []
    for where, module in network.named_modules():
        if isinstance(module, torch.nn.Dropout) and 0 < module.p < 1:
            handles.append(module.register_forward_hook(masks.behind(where, module.p)))
    handles.append(network.register_forward_pre_hook(masks.ran))
    if head:
        handles.append(_head(network, name).register_forward_pre_hook(masks.before("head", head)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if masks.runs and not masks.drawn:
        what = f"model '{name}' has no dropout, so all its passes would agree"
        raise EngineError(what, hint="say how much to drop before its head, `head: 0.1`, or ask an ensemble")


class _Masks:
    """One mask a place and width, drawn from the seed when first needed, always by the CPU's generator."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.drawn: dict[tuple[str, int], torch.Tensor] = {}
        self.runs = 0

    def ran(self, *_: object) -> None:
        """Count that the network ran: where no text could be read, nothing can be said of it."""
        self.runs += 1

    def behind(
        self, where: str, share: float
    ) -> Callable[["torch.nn.Module", object, "torch.Tensor"], "torch.Tensor"]:
        """Return what a dropout layer does behind its own work, which outside of training is nothing."""

        def hook(_: "torch.nn.Module", __: object, states: "torch.Tensor") -> "torch.Tensor":
            # Attention weights have a row for every head and are as wide as the text: no unit is dropped there.
            return states if states.dim() > 3 else states * self._mask(where, share, states)

        return hook

    def before(
        self, where: str, share: float
    ) -> Callable[["torch.nn.Module", tuple["torch.Tensor", ...]], tuple["torch.Tensor", ...]]:
        """Return what is done to the input of a layer."""

        def hook(_: "torch.nn.Module", args: tuple["torch.Tensor", ...]) -> tuple["torch.Tensor", ...]:
            return (args[0] * self._mask(where, share, args[0]), *args[1:])

        return hook

    def _mask(self, where: str, share: float, states: "torch.Tensor") -> "torch.Tensor":
        """Return what units are multiplied by: 0, or 1 / (1 - share), so that their mean stays."""
        import torch

        key = (where, states.shape[-1])
        if key not in self.drawn:
            generator = torch.Generator().manual_seed(draw_seed(self.seed, "dropout", where))
            kept = torch.rand(states.shape[-1], generator=generator) >= share
            self.drawn[key] = kept / (1 - share)
        return self.drawn[key].to(states)


def _head(network: "PreTrainedModel", name: str) -> "torch.nn.Module":
    """Return the layer that turns a state into rewards: the last linear one with as many outputs as labels."""
    import torch

    labels = network.config.num_labels
    fits = [
        each
        for each in network.modules()
        if isinstance(each, torch.nn.Linear) and each.out_features == labels
    ]
    if not fits:
        raise EngineError(f"model '{name}' has no reward head that is known", hint="leave `head` out")
    return fits[-1]
