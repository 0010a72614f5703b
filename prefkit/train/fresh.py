"""Fresh samples: what the policy says after training, rated by the same stages that made the dataset.

The trained folder is opened as any other model, sampled by the `sample` stage and rated by a `score` stage, once
before and once after, on the same held-out prompts and from the same seeds. So there is no second path to a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.columns import COLUMNS
from prefkit.engines import Conversation, Engines, Failure, Model
from prefkit.engines.chat import encode_all
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.stage import Context
from prefkit.stages.sample import Sample
from prefkit.tables import last_content, message_tuples
from prefkit.train.batches import pack, split_by_tokens
from prefkit.train.forward import precision
from prefkit.train.logps import log_probs
from prefkit.train.report import Measured
from prefkit.train.settings import Evaluate, TrainPlacement
from prefkit.train.tokenise import Pair

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Divergence", "Drawn", "characters", "divergence", "draw", "prompts_of"]


class Drawn(NamedTuple):
    """Samples of one model on the held-out prompts."""

    table: pa.Table
    """Response rows."""
    scores: Measured | None
    """Their scores, samples without one left out; None if the settings name no scorer."""
    failed: int


class Divergence(NamedTuple):
    """How far the policy is from its reference, on the policy's own samples. Nats a response."""

    k1: Measured
    k3: Measured


def prompts_of(pairs: pa.Table, most: int) -> pa.Table:
    """Return the first `most` distinct prompts of pairs as prompt rows, in the order of the table."""
    _, first = np.unique(np.asarray(pairs["prompt_id"].to_pylist()), return_index=True)
    rows = pairs.take(np.sort(first)[:most])
    kept = [name for name in rows.column_names if name in COLUMNS and "prompt" in COLUMNS[name].levels]
    kept = [name for name in kept if name != "split"]
    return rows.select(kept).set_column(kept.index("id"), "id", rows["prompt_id"])


def draw(
    model: Model, prompts: pa.Table, settings: Evaluate, engines: Engines, device: str, seed: int
) -> Drawn:
    """Sample `model` on the prompts and rate the samples. The scorer's engine comes from `engines`."""
    context = Context(
        seed=seed, engines=Engines({**engines.serving, model.served_as: TransformersEngine(device)})
    )
    sample = Sample(
        model=model, n=settings.samples, temperature=settings.temperature, max_tokens=settings.max_tokens
    )
    table = sample(prompts, context)
    scores = None
    if settings.score is not None:
        table = settings.score(table, context)
        name = settings.score.into
        rated = table.filter(table[name].is_valid())
        scores = Measured(
            np.asarray(rated[name].to_pylist(), dtype=np.float64), rated["prompt_id"].to_pylist()
        )
    return Drawn(table, scores, sum(part.num_rows for part in context.failed))


def characters(drawn: Drawn) -> Measured:
    """Return the length of each sample, in characters."""
    texts = last_content(drawn.table["response"]).to_pylist()
    return Measured(
        np.asarray([len(text or "") for text in texts], dtype=np.float64),
        drawn.table["prompt_id"].to_pylist(),
    )


def divergence(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    table: pa.Table,
    placement: TrainPlacement,
) -> Divergence:
    """Estimate KL(policy || reference) on the policy's own samples.

    k1 is the log-ratio of the whole response; k3 sums `exp(-r) - 1 + r` over tokens, r the token's log-ratio
    (Schulman, 2020). Both are unbiased for sampled tokens; k3 is never negative.
    """
    import torch

    conversations = zip(message_tuples(table["prompt"]), message_tuples(table["response"]), strict=True)
    tools = table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows
    found = encode_all(
        tokenizer, [Conversation(*sides, tool) for sides, tool in zip(conversations, tools, strict=True)]
    )
    rows = [row for row, one in enumerate(found) if not isinstance(one, Failure)]
    # A response as a pair with itself: packing lays it out once.
    pairs = [
        Pair(row, "", tuple(one.prompt_ids), tuple(one.response_ids), tuple(one.response_ids))
        for row, one in enumerate(found)
        if not isinstance(one, Failure)
    ]
    k1, k3 = np.zeros(len(rows)), np.zeros(len(rows))
    for part in split_by_tokens(pairs, placement.room(policy.device.type)):
        packed = pack([pairs[index] for index in part], policy.device)
        with torch.no_grad(), precision(policy, placement):
            ratio = log_probs(policy, packed).tokens - log_probs(reference, packed).tokens
        for into, terms in ((k1, ratio), (k3, torch.expm1(-ratio) + ratio)):
            sums = torch.zeros_like(packed.sizes).index_add(0, packed.response, terms)
            into[part] = sums[packed.chosen].double().cpu().numpy()
    prompts = table["prompt_id"].take(rows).to_pylist()
    return Divergence(Measured(k1, prompts), Measured(k3, prompts))
