"""Make the toy models: `python -m prefkit.toy.make OUT_DIR`, about seven minutes on one core.

Three trainings, each on fresh demonstrations or samples, so that nothing can be memorised:

    base     clean demonstrations: it learns to copy, to add and to write in a tone
    policy   demonstrations of mixed skill with the demonstrators' habits: good at the tasks, and not good enough
    reward   comparisons of the policy's own answers by noisy annotators, fitted by Bradley and Terry's model

`policy` and `reward` are saved in half precision with their tokenizer, and `figures.json` says how good they are on
prompts that no training saw. Base is kept in memory only: it would be a policy with nothing left to learn.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from prefkit.toy.demonstrators import COMMON_HABITS, NO_HABITS, Habits, demonstrate
from prefkit.toy.grading import gold
from prefkit.toy.model import (
    Batch,
    Example,
    FitSettings,
    encode_answer,
    encode_prompt,
    fit,
    make_model,
    make_tokenizer,
    pad,
    sample_answers,
    sft_loss,
)
from prefkit.toy.pools import draw_tasks, prompts
from prefkit.toy.reward import all_comparisons, fit_reward, label, make_reward, pair_accuracy
from prefkit.toy.world import write_prompt

__all__ = ["main"]

SEED: Final = 0
BASE: Final = FitSettings(steps=1300, batch=32, peak_lr=2e-3, warmup=50)
POLICY: Final = FitSettings(steps=300, batch=32, peak_lr=1e-3, warmup=20)
REWARD: Final = FitSettings(steps=500, batch=32, peak_lr=1e-3, warmup=20)
SKILLS: Final = (0.03, 0.15, 0.40)
"""Error rates of good, mid and poor demonstrators, in equal parts."""
_POOL: Final = 8


class Skill(NamedTuple):
    """Who demonstrates: the error rates to choose from, and the habits."""

    error_rates: tuple[float, ...]
    habits: Habits


CLEAN: Final = Skill((0.0,), NO_HABITS)
MIXED: Final = Skill(SKILLS, COMMON_HABITS)


def main(out: Path) -> None:
    """Train the models and save them in `out`."""
    torch.set_num_threads(1)
    started = time.process_time()
    tokenizer = make_tokenizer(_corpus())
    base = make_model(tokenizer, SEED)
    _report("base", fit(base, _losses(base, tokenizer, CLEAN, BASE.batch, SEED + 1), BASE))
    figures: dict[str, object] = {"base_greedy_gold": _gold(base, tokenizer, temperature=0.0)}
    first = {name: value.clone() for name, value in base.state_dict().items()}
    _report("policy", fit(base, _losses(base, tokenizer, MIXED, POLICY.batch, SEED + 2), POLICY))
    policy = base
    figures |= _measure(policy, tokenizer)
    _save(policy, tokenizer, out / "policy")
    base = make_model(tokenizer, SEED)
    base.load_state_dict(first)
    figures["reward_pair_accuracy"] = _make_reward(base, policy, tokenizer, out / "reward")
    figures["cpu_seconds"] = round(time.process_time() - started)
    figures["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def _make_reward(
    base: LlamaForCausalLM, policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> dict[str, float]:
    """Fit and save the reward model; return its accuracy on unseen prompts, on all pairs and on clear ones."""
    asked = prompts(3000, SEED + 3, "training")
    answers = sample_answers(policy, tokenizer, asked, n=4, seed=SEED + 3)
    rng = random.Random(SEED + 4)  # noqa: S311 - no secret depends on it
    compared = label(all_comparisons(asked, answers), rng)
    reward = make_reward(base, SEED)
    _report("reward", fit_reward(reward, tokenizer, compared, REWARD, rng))
    unseen = prompts(300, SEED + 5, "measuring")
    pairs = all_comparisons(unseen, sample_answers(policy, tokenizer, unseen, n=4, seed=SEED + 5))
    gaps = [gold(pair.prompt, pair.better).reward - gold(pair.prompt, pair.worse).reward for pair in pairs]
    clear = [pair for pair, gap in zip(pairs, gaps, strict=True) if gap > 0.2]
    found = {
        "all_pairs": round(pair_accuracy(reward, tokenizer, pairs), 3),
        "gaps_over_0.2": round(pair_accuracy(reward, tokenizer, clear), 3),
    }
    reward.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return found


def _corpus() -> Iterator[str]:
    rng = random.Random(SEED)  # noqa: S311
    for task in islice(draw_tasks(SEED, "training"), 4000):
        yield write_prompt(task)
        yield demonstrate(rng, task)


def _losses(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, skill: Skill, size: int, seed: int
) -> Iterator[torch.Tensor]:
    for batch in _batches(tokenizer, skill, size, seed):
        yield sft_loss(model, batch)


def _batches(tokenizer: PreTrainedTokenizerFast, skill: Skill, size: int, seed: int) -> Iterator[Batch]:
    """Yield batches of fresh demonstrations of about one length, for ever."""
    rng = random.Random(seed)  # noqa: S311
    tasks = draw_tasks(seed, "training")
    while True:
        examples = []
        for task in islice(tasks, size * _POOL):
            answer = demonstrate(rng, task, rng.choice(skill.error_rates), skill.habits)
            prompt = encode_prompt(tokenizer, write_prompt(task))
            examples.append(Example(prompt, encode_answer(tokenizer, answer)))
        examples.sort(key=lambda example: len(example.prompt) + len(example.answer))
        starts = rng.sample(range(0, len(examples), size), _POOL)
        yield from (pad(examples[start : start + size], tokenizer.pad_token_id) for start in starts)


def _measure(policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    asked = prompts(300, SEED, "measuring")
    sampled = sample_answers(policy, tokenizer, asked, n=3, seed=SEED)
    rewards = [
        gold(prompt, text).reward for prompt, texts in zip(asked, sampled, strict=True) for text in texts
    ]
    return {
        "policy_sampled_gold": round(fmean(rewards), 3),
        "policy_sampled_perfect": round(fmean(reward > 0.999 for reward in rewards), 3),
        "policy_greedy_gold": _gold(policy, tokenizer, temperature=0.0),
    }


def _gold(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, temperature: float) -> float:
    asked = prompts(300, SEED, "measuring")
    answers = sample_answers(model, tokenizer, asked, temperature=temperature)
    return round(fmean(gold(prompt, text).reward for prompt, (text,) in zip(asked, answers, strict=True)), 3)


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a copy in half precision, and go on with the same rounded weights."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.float()


def _report(name: str, losses: Iterator[float]) -> None:
    for step, loss in enumerate(losses, start=1):
        if step % 100 == 0:
            print(f"{name} step {step}: loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
