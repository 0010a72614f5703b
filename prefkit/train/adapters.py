"""Adapters: low-rank updates beside frozen weights, by peft. The reference is the same network with them switched off.

peft puts its layers into the network that it is given, so everything else in training goes on with that network; what
peft returns is only needed to switch adapters off and to save them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from prefkit.errors import TrainError

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["Lora", "lend_without", "merged", "save_adapter", "wrap"]


class Lora(BaseModel):
    """Which low-rank adapters are trained. Hu et al. (2021)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: PositiveInt = 16
    """Columns of the two factors."""
    alpha: PositiveFloat = 32.0
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On the adapters' inputs, while training."""
    targets: tuple[str, ...] | None = None
    """Names of the linear layers that get one; left out, all but the output head."""


def wrap(network: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """Put fresh adapters into a network and freeze the rest. Their update is zero before the first step.

    Raises TrainError where peft is not installed or no layer has a name that was given.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise TrainError("`lora` needs peft", hint="pip install 'prefkit[peft]'") from error
    import torch

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks the network by a name that transformers 5 has renamed; both know, and both still work.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        torch.manual_seed(seed)
        try:
            return get_peft_model(network, config)
        except ValueError as error:
            hint = "leave out `targets`, or name linear layers of the model"
            raise TrainError(f"no adapter fits: {error}", where="train: lora", hint=hint) from error


def lend_without(
    wrapped: PeftModel, network: PreTrainedModel
) -> Callable[[], AbstractContextManager[PreTrainedModel]]:
    """Return what lends the network with its adapters switched off: the reference."""

    @contextmanager
    def lent() -> Iterator[PreTrainedModel]:
        training = network.training
        network.eval()
        try:
            with wrapped.disable_adapter():
                yield network
        finally:
            network.train(training)

    return lent


def merged(network: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights of the network with its adapters added in, under the names of the plain model."""
    from peft.tuners.lora import LoraLayer

    state = {
        name.replace(".base_layer", ""): weight.detach()
        for name, weight in network.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in network.named_modules():
        if isinstance(layer, LoraLayer):
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = weight + layer.get_delta_weight("default").detach().to(weight.dtype)
    return state


def save_adapter(wrapped: PeftModel, folder: Path) -> None:
    """Write the adapters alone; they open with peft on the model that training started from."""
    wrapped.save_pretrained(str(folder))
