"""Measuring a trained model: what it says on held-out prompts, and what it makes of held-out pairs.

Answers are drawn by the `sample` stage and rated by the stages of the settings, the same doors as a build's. With the same seed
every arm draws the same random numbers, so differences are between models and not between draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.comparing.top_tokens import expected_distinct, top_tokens
from prefkit.engines import Engines, Model
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.engines.weights import Loaded
from prefkit.experiment.changed import changed
from prefkit.experiment.settings import CompareSettings
from prefkit.experiment.table import rows
from prefkit.stage import Context
from prefkit.stages.sample import Sample
from prefkit.stages.score import Score
from prefkit.tables import last_content, put
from prefkit.texts import characters
from prefkit.train import fresh
from prefkit.train.batches import pack, split_by_tokens
from prefkit.train.forward import precision
from prefkit.train.logps import chunks, head_of, scored_hidden, sums, token_log_probs
from prefkit.train.settings import TrainPlacement, TrainSettings
from prefkit.train.tokenise import Pair, tokenise

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Bench",
    "Measured",
    "answers",
    "of_answers",
    "of_model",
    "of_pairs",
    "of_reference",
    "ready_pairs",
]

_TOP = 10
_GRAMS = 5


class Bench(NamedTuple):
    """What all models of a comparison are measured with."""

    settings: CompareSettings
    train: TrainSettings
    placement: TrainPlacement
    engines: Engines
    reference: Loaded
    prompts: pa.Table
    pairs: Mapping[str, ReadyPairs]
    answers: pa.Table | None = None
    """Of the reference, where they were drawn."""


class ReadyPairs(NamedTuple):
    """Held-out pairs of an arm as tokens, and what the reference makes of them."""

    pairs: Sequence[Pair]
    table: pa.Table
    """The rows of `pairs`, in their order."""
    chosen: np.ndarray
    """Log-probs under the reference, nats, float64 [pairs]."""
    rejected: np.ndarray


class Measured(NamedTuple):
    """What one model showed."""

    values: pl.DataFrame
    answers: pa.Table
    changed: np.ndarray
    """Which of the sampled weights training changed: bool [sampled]."""


def answers(bench: Bench, model: Model, seed: int) -> pa.Table:
    """Return a model's answers to the held-out prompts as response rows, rated, with `sample` numbering those of a prompt."""
    device = str(bench.reference.network.device)
    local = {**bench.engines.serving, model.served_as: TransformersEngine(device)}
    context = Context(seed=seed, engines=Engines(local))
    wanted = bench.settings
    sample = Sample(
        model=model,
        n=wanted.samples,
        temperature=wanted.temperature,
        top_p=wanted.top_p if wanted.temperature else 1.0,
        max_tokens=wanted.max_tokens,
    )
    table = sample(bench.prompts, context)
    number = pl.DataFrame({"p": pl.Series(table["prompt_id"])}).select(pl.int_range(pl.len()).over("p"))
    table = table.append_column("sample", number.to_series().to_arrow().cast(pa.int64()))
    table = table.append_column("chars", pa.array(characters(table["response"]), pa.float64()))
    for score, name in ((wanted.score, "score"), (wanted.second, "second")):
        if score is not None:
            table = _rated(table, score, name, context)
    return table


def _rated(table: pa.Table, score: Score, name: str, context: Context) -> pa.Table:
    """Return the table with the scorer's number in a column of this name."""
    bare = table.select([column for column in table.column_names if column not in ("score", "second")])
    told = score(bare, context)[score.into]
    return put(table, name, told.cast(pa.float64()))


def of_answers(table: pa.Table) -> Iterator[pl.DataFrame]:
    """Yield what answers show by themselves: scores and lengths."""
    names = table["prompt_id"].to_pylist(), [str(number) for number in table["sample"].to_pylist()]
    for metric in ("score", "second", "chars"):
        if metric in table.column_names:
            column = pl.Series(table[metric]).cast(pl.Float64).fill_null(np.nan).to_numpy()
            yield rows(metric, *names, column)


def ready_pairs(
    table: pa.Table, bench_settings: TrainSettings, reference: Loaded, placement: TrainPlacement
) -> ReadyPairs:
    """Tokenise held-out pairs and read them with the reference. Pairs that training would leave out are left out."""
    told = tokenise(table, reference.tokenizer, bench_settings, reference.context)
    pairs = [pair._replace(masks=None) for pair in told.pairs]
    rest = table.take(pa.array([pair.row for pair in pairs], pa.int64()))
    said = _read(reference.network, pairs, placement)
    return ReadyPairs(pairs, rest, said.chosen, said.rejected)


def of_reference(bench: Bench) -> Iterator[pl.DataFrame]:
    """Yield what belongs to no arm: log-probs of the reference and lengths of held-out pairs."""
    for arm, ready in bench.pairs.items():
        names = ready.table["prompt_id"].to_pylist(), [pair.id for pair in ready.pairs]
        sides = [characters(ready.table[side]) for side in ("chosen", "rejected")]
        tokens = [[len(pair.chosen), len(pair.rejected)] for pair in ready.pairs]
        counts = np.asarray(tokens, dtype=np.float64).reshape(-1, 2)
        yield rows("chosen_logp", *names, ready.chosen, arm)
        yield rows("rejected_logp", *names, ready.rejected, arm)
        yield rows("chosen_tokens", *names, counts[:, 0], arm)
        yield rows("rejected_tokens", *names, counts[:, 1], arm)
        yield rows("length_gap", *names, np.subtract(*sides), arm)


def of_pairs(bench: Bench, network: PreTrainedModel) -> Iterator[pl.DataFrame]:
    """Yield what a model makes of held-out pairs: log-probs, and how widely it spreads them along chosen sides."""
    for arm, ready in bench.pairs.items():
        names = ready.table["prompt_id"].to_pylist(), [pair.id for pair in ready.pairs]
        said = _read(network, ready.pairs, bench.placement)
        for metric, values in zip(_Read._fields, said, strict=True):
            yield rows(_NAMES[metric], *names, values, arm)


def of_model(bench: Bench, loaded: Loaded, drawn: pa.Table) -> tuple[list[pl.DataFrame], np.ndarray]:
    """Return how far a model is from the reference, in what it says and in its weights."""
    network, reference, tokenizer = loaded.network, bench.reference.network, loaded.tokenizer
    found: list[pl.DataFrame] = []
    told = fresh.divergence(network, reference, tokenizer, drawn, bench.placement)
    for metric, each in (("kl", told.k1), ("kl_k3", told.k3)):
        found.append(rows(metric, each.prompts, _numbered(each.prompts), each.values))
    if bench.answers is not None:
        other = fresh.divergence(network, reference, tokenizer, bench.answers, bench.placement).k1
        found.append(rows("reference_ratio", other.prompts, _numbered(other.prompts), other.values))
    moved = changed(network, reference)
    for metric, value in zip(
        ("weights_same", "weights_within", "weights_same_bfloat16"), moved[:3], strict=True
    ):
        found.append(rows(metric, [""], ["0"], np.asarray([value])))
    found.append(rows("distinct", [""], ["0"], np.asarray([_distinct(drawn, tokenizer)])))
    return found, moved.sample


def _numbered(prompts: Sequence[str]) -> list[str]:
    """Number the samples of each prompt."""
    frame = pl.DataFrame({"p": list(prompts)}).select(pl.int_range(pl.len()).over("p").cast(pl.String))
    return frame.to_series().to_list()


def _distinct(table: pa.Table, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return the diversity of answers: distinct n-grams over those of as many draws, mean of n = 1 to 5."""
    texts = [text or "" for text in last_content(table["response"]).to_pylist()]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    found = []
    for n in range(1, _GRAMS + 1):
        grams = [tuple(line[at : at + n]) for line in ids for at in range(len(line) - n + 1)]
        if grams:
            found.append(expected_distinct(len(set(grams)), len(grams), len(tokenizer) ** n))
    return float(np.mean(found)) if found else float("nan")


class _Read(NamedTuple):
    """What a model makes of pairs; every array is float64 [pairs]."""

    chosen: np.ndarray
    rejected: np.ndarray
    entropy: np.ndarray
    """Bits, of the ten likeliest tokens, mean over the chosen side."""
    mass: np.ndarray
    """Their share of the probability."""


_NAMES = {
    "chosen": "chosen_logp",
    "rejected": "rejected_logp",
    "entropy": "top_entropy",
    "mass": "top_mass",
}


def _read(network: PreTrainedModel, pairs: Sequence[Pair], placement: TrainPlacement) -> _Read:
    import torch

    told = _Read(*(np.zeros(len(pairs)) for _ in _Read._fields))
    device = network.device
    network.eval()
    for part in split_by_tokens(pairs, placement.room(device.type)):
        packed = pack([pairs[at] for at in part], device)
        with torch.no_grad(), precision(network, placement):
            hidden = scored_hidden(network, packed)
            tokens = sums(token_log_probs(hidden, head_of(network), packed.targets), packed)
            spread = [sums(each, packed) / packed.sizes for each in _spread(hidden, head_of(network))]
        for into, values, side in (
            (told.chosen, tokens, packed.chosen),
            (told.rejected, tokens, packed.rejected),
            (told.entropy, spread[0], packed.chosen),
            (told.mass, spread[1], packed.chosen),
        ):
            into[part] = values[side].double().cpu().numpy()
    return told


def _spread(hidden: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    """Return entropy in bits and mass of the likeliest tokens at each scored token, float32 [tokens] each."""
    import torch

    entropy, mass = hidden.new_zeros(len(hidden)).float(), hidden.new_zeros(len(hidden)).float()
    for part in chunks(hidden, head):
        logits = (hidden[part] @ head.to(hidden.dtype).T).float()
        top = logits.log_softmax(-1).topk(min(_TOP, logits.shape[-1]), -1).values
        found = top_tokens(top.cpu().numpy())
        entropy[part] = torch.from_numpy(found.entropy).to(entropy)
        mass[part] = torch.from_numpy(found.mass).to(mass)
    return entropy, mass
