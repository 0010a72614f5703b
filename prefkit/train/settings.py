"""Training settings: what is trained, on which objective, for how long. Importable without torch.

They are split as recipes are: `TrainSettings` is identity and stands in the recipe; `TrainPlacement` says where and
how fast, comes from flags, and changes no result beyond the rounding of the chosen dtype.
"""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from prefkit.engines import Model
from prefkit.objectives import Objective
from prefkit.stages.score import Score
from prefkit.train.adapters import Lora

__all__ = ["Evaluate", "TrainPlacement", "TrainSettings"]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Evaluate(BaseModel):
    """Fresh samples on held-out prompts, before and after training."""

    model_config = _FROZEN

    prompts: PositiveInt = 200
    """How many held-out prompts, the first in the order of the table."""
    samples: PositiveInt = 3
    """Samples a prompt."""
    temperature: NonNegativeFloat = 1.0
    """0 is greedy decoding, which shows the least of what training moved."""
    max_tokens: PositiveInt = 256
    """Longest sample."""
    every: PositiveInt | None = None
    """Optimizer steps between evaluations on the way; left out, only before and after."""
    score: Score | None = None
    """Settings of a `score` stage that rates the samples; left out, only the distance to the reference is measured."""

    @field_validator("score")
    @classmethod
    def _rates_responses(cls, score: Score | None) -> Score | None:
        if score is not None and (score.at != "response" or score.ratings is not None):
            raise ValueError(
                "samples are responses without ratings: rate them by a model or a rule, at: response"
            )
        return score


class TrainSettings(BaseModel):
    """One training run: everything that decides the result, and nothing about the machine."""

    model_config = _FROZEN

    model: Model
    """The policy to start from, and the reference unless the objective needs none."""
    objective: Objective = Objective()
    """A preset, or a composition of pieces."""
    epochs: PositiveFloat = 1.0
    """Passes over the pairs; a fraction stops within a pass."""
    steps: PositiveInt | None = None
    """Optimizer steps, instead of `epochs`."""
    batch: PositiveInt = 64
    """Pairs per optimizer step, however they are cut into micro-batches."""
    learning_rate: PositiveFloat = 5e-7
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the rate falls after the warm-up: not at all, or to zero."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the rate rises."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """Decay of AdamW's two moments."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay of matrices; vectors (norms, biases) are never decayed."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Longer gradients are scaled down to this length."""
    seed: NonNegativeInt = 0
    """Order of the pairs and dropout."""
    max_length: PositiveInt | None = None
    """Longest prompt plus response, in tokens; left out, the model's own limit."""
    truncate: Literal["drop", "prompt", "response"] = "drop"
    """What happens to a longer pair: it is dropped, loses the start of its prompt, or the end of its responses."""
    order: Literal["auto", "shuffled"] = "auto"
    """`auto` obeys the columns `phase` and `rank` where the pairs have them; otherwise a seeded shuffle."""
    phase_epochs: tuple[PositiveFloat, ...] | None = None
    """Passes over the pairs of each `phase`, one phase after the other, instead of `epochs`."""
    update_reference: bool = False
    """Whether each phase after the first is trained against the policy that the one before left."""
    reference: Model | None = None
    """The reference, where it is not the model that training starts from."""
    lora: Lora | None = None
    """Train low-rank adapters instead of all weights; the reference is the model without them."""
    evaluate: Evaluate | None = None
    """Fresh samples before and after; left out, none are drawn."""

    @model_validator(mode="after")
    def _fits(self) -> "TrainSettings":
        if self.phase_epochs is not None and (self.steps is not None or self.epochs != 1):
            raise ValueError("`phase_epochs` says how long a run is: leave out `steps` and `epochs`")
        if self.phase_epochs is not None and self.order == "shuffled":
            raise ValueError("`phase_epochs` needs the phases in order: leave out `order: shuffled`")
        if self.update_reference and self.phase_epochs is None:
            raise ValueError("`update_reference` needs `phase_epochs`")
        return self


class TrainPlacement(BaseModel):
    """Where and how fast a run happens. No part of its identity."""

    model_config = _FROZEN

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of activations; weights and optimizer state stay float32. `auto`: bfloat16 on a GPU, else float32."""
    micro_tokens: PositiveInt | None = None
    """Tokens in memory at once, at least one prompt with its responses; left out, 2,048 on a CPU, else 16,384."""
    threads: PositiveInt | None = None
    """CPU threads of torch; left out, as the environment says."""
    checkpoint_every: PositiveInt = 200
    """Optimizer steps between checkpoints."""
    keep_every: PositiveInt | None = None
    """Optimizer steps between models that are kept in `models/`, for who measures a run on its way; left out, none are."""
    recompute: bool = False
    """Forget activations and compute them again in the backward pass: less memory, a third more work."""
    compile: bool = False
    """Compile the network's layers: slower to begin, faster on a GPU."""
    log_to: Literal["tensorboard", "wandb", "trackio"] | None = None
    """Where the metrics go besides `metrics.jsonl`."""

    def room(self, device: str) -> int:
        """Return how many tokens are in memory at once on a type of device."""
        return self.micro_tokens or (2048 if device == "cpu" else 16_384)

    def half(self, device: str) -> bool:
        """Return whether activations are bfloat16 on a type of device."""
        return self.dtype == "bfloat16" or (self.dtype == "auto" and device == "cuda")
