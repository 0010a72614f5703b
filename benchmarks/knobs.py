"""The rows of the GPU benchmark: prefkit's trainer as it is, with one part replaced by a plain one, and other trainers.

A row trains on a `Setup` and calls `mark` with the loss after every step.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

from workload import SPECIAL, Words

BETA, BETAS = 0.1, (0.9, 0.999)
Mark = Callable[[float], None]


class Setup(NamedTuple):
    """What a row runs on."""

    model: Any
    wrapped: Any
    """The model as peft returns it, under LoRA; else the model."""
    words: Sequence[Words]
    batches: Sequence[Sequence[int]]
    """The pairs of each step."""
    options: argparse.Namespace


class Parts(NamedTuple):
    """What prefkit's loop is given, for a knob to change."""

    setup: Setup
    task: Any
    settings: Any
    optimizer: Any
    batches: Any


Knob = Callable[[Parts], Parts]


def run_prefkit(setup: Setup, mark: Mark, knob: Knob) -> None:
    from prefkit.train.loop import fit

    parts = knob(parts_of(setup))
    steps = fit(parts.task, parts.batches, parts.settings, parts.optimizer, len(setup.batches))
    for step in steps:
        mark(step.metrics["loss"])


def parts_of(setup: Setup) -> Parts:
    """Build what `prefkit.train` hands to its loop. The reference is the model itself, before the first step."""
    import numpy as np

    from prefkit.engines import Model
    from prefkit.objectives.presets import make
    from prefkit.train import TrainPlacement, TrainSettings, attention
    from prefkit.train.batches import Batch
    from prefkit.train.forward import Task
    from prefkit.train.optimizer import make_optimizer
    from prefkit.train.prepare import lend, reference_sums
    from prefkit.train.tokenise import Pair

    attention.register()
    setup.model.set_attn_implementation(attention.NAME)
    settings = TrainSettings(
        model=Model(id="random"),
        betas=BETAS,
        objective=make("dpo", {"beta": BETA}),
        learning_rate=setup.options.rate,
        warmup=0,
        schedule="constant",
    )
    placement = TrainPlacement(device=setup.options.device, micro_tokens=setup.options.micro_tokens)
    pairs = [Pair(at, f"pair{at}", *ids_of(one)) for at, one in enumerate(setup.words)]
    unknown = {f"ref_{side}_logp": np.zeros(len(pairs)) for side in ("chosen", "rejected")}
    task = Task(setup.model, settings.objective, unknown, placement, {}, lend(setup.model))
    task = task._replace(columns=reference_sums(task, pairs))
    batches = [Batch(step, 0, 0, [pairs[at] for at in rows]) for step, rows in enumerate(setup.batches)]
    return Parts(setup, task, settings, make_optimizer(task, settings), batches)


def ids_of(words: Words) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return a pair's token ids, as the chat template would write them."""
    user, assistant, end = (SPECIAL.index(name) for name in ("<user>", "<assistant>", "<end>"))
    chosen, rejected = ((*side.tolist(), end) for side in (words.chosen, words.rejected))
    return (user, *words.prompt.tolist(), assistant), chosen, rejected


def as_it_is(parts: Parts) -> Parts:
    return parts


def without_sharing(parts: Parts) -> Parts:
    """Give every answer a prompt of its own."""
    from prefkit.train import batches, forward

    forward.pack = partial(batches.pack, shared=False)
    return parts


def without_packing(parts: Parts) -> Parts:
    """Give every answer a prompt of its own and pad all rows of a micro-batch to its longest."""
    import numpy as np
    import torch

    from prefkit.train import attention, batches, forward

    def padded(pairs: Sequence[Any], device: Any, *, shared: bool = True) -> Any:  # noqa: ARG001 - as `pack`
        packed = batches.pack(pairs, device, shared=False)
        longest, used = packed.rows.longest, packed.tokens.shape[1]
        sizes = [len(pair.prompt) + len(side) - 1 for pair in pairs for side in (pair.chosen, pair.rejected)]
        starts, rows, total = np.cumsum([0, *sizes]), [], used
        for start, size in zip(starts, sizes, strict=False):
            more = longest - size
            rows.append(np.concatenate([np.arange(start, start + size), np.arange(total, total + more)]))
            total += more
        filler = torch.zeros(1, total - used, dtype=torch.int64, device=device)
        return packed._replace(
            tokens=torch.cat([packed.tokens, filler], 1),
            positions=torch.cat([packed.positions, filler], 1),
            rows=attention.layout(rows, total, device),
        )

    forward.pack = padded
    return parts


def without_chunks(parts: Parts) -> Parts:
    """Make all logits of the scored tokens at once."""
    from prefkit.train import forward

    def whole(hidden: Any, head: Any, targets: Any) -> Any:
        logits = (hidden @ head.to(hidden.dtype).T).float()
        return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]

    forward.token_log_probs = whole
    return parts


def without_cache(parts: Parts) -> Parts:
    """Run the reference at every step: the network without its adapters, or a second one."""
    from prefkit.train.adapters import lend_without
    from prefkit.train.prepare import lend, reference_sums

    model, wrapped = parts.setup.model, parts.setup.wrapped
    other = lend(deepcopy(model).requires_grad_(False)) if wrapped is model else lend_without(wrapped, model)
    task = parts.task._replace(reference=other)

    def live() -> Iterator[Any]:
        for batch in parts.batches:
            task.columns.update(reference_sums(task, batch.pairs))
            yield batch

    return parts._replace(task=task, batches=live())


def without_fusing(parts: Parts) -> Parts:
    """Update the weights one tensor and one operation at a time."""
    for group in parts.optimizer.param_groups:
        group.update(fused=False, foreach=False)
    return parts


def with_recomputing(parts: Parts) -> Parts:
    parts.setup.model.activation_checkpointing_enable()
    return parts


def with_compiling(parts: Parts) -> Parts:
    """Compile what has the same graph for every batch: norms and feed-forward layers, which are many small kernels."""
    for name, module in parts.setup.model.named_modules():
        if name.endswith(("mlp", "norm")):
            module.compile(dynamic=True)
    return parts


def with_flex(parts: Parts) -> Parts:
    """Attend by FlexAttention over the whole line instead of copying rows out of it."""
    import flex

    flex.use(parts.setup.model)
    return parts


def run_plain(setup: Setup, mark: Mark) -> None:
    """Train as one writes it with transformers alone: padded batches, all logits, a live reference."""
    import torch
    from torch.nn.functional import logsigmoid
    from torch.nn.utils.rnn import pad_sequence

    model, options = setup.model, setup.options
    reference = deepcopy(model).requires_grad_(False)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.rate, betas=BETAS, weight_decay=0.0)

    def log_probs(network: Any, pairs: Sequence[Any]) -> Any:
        sides = [(prompt, side) for at in (1, 2) for prompt, side in ((pair[0], pair[at]) for pair in pairs)]
        ids = pad_sequence([torch.tensor(prompt + side) for prompt, side in sides], batch_first=True)
        mask = pad_sequence([torch.ones(len(prompt + side)) for prompt, side in sides], batch_first=True)
        scored = [torch.tensor([0.0] * len(prompt) + [1.0] * len(side)) for prompt, side in sides]
        ids, mask, told = (
            part.to(options.device) for part in (ids, mask, pad_sequence(scored, batch_first=True))
        )
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
            logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        found = logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return (found * told[:, 1:]).sum(-1).chunk(2)

    for rows in setup.batches:
        total = 0.0
        for start in range(0, len(rows), options.micro_pairs):
            pairs = [ids_of(setup.words[at]) for at in rows[start : start + options.micro_pairs]]
            with torch.no_grad():
                before = log_probs(reference, pairs)
            chosen, rejected = (now - then for now, then in zip(log_probs(model, pairs), before, strict=True))
            loss = -logsigmoid(BETA * (chosen - rejected)).sum() / len(rows)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mark(total)


ROWS: Mapping[str, Callable[[Setup, Mark], None]] = {
    "prefkit": partial(run_prefkit, knob=as_it_is),
    "no-sharing": partial(run_prefkit, knob=without_sharing),
    "no-packing": partial(run_prefkit, knob=without_packing),
    "no-chunks": partial(run_prefkit, knob=without_chunks),
    "no-cache": partial(run_prefkit, knob=without_cache),
    "no-fusing": partial(run_prefkit, knob=without_fusing),
    "recomputing": partial(run_prefkit, knob=with_recomputing),
    "compiling": partial(run_prefkit, knob=with_compiling),
    "flex": partial(run_prefkit, knob=with_flex),
    "plain": run_plain,
}
"""What is switched off or on, by name."""
