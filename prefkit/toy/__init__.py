"""A small world in which preference learning is real, and can be measured offline in a minute.

Tasks whose answers can be graded exactly (`world`, `grading`), a policy that is good at them but not good enough, a
reward model that is wrong at times, and a critic that says why one answer is better than another. Both models are
ordinary transformers checkpoints, shipped in the package: whatever works with them works with models from the Hub.

    from prefkit.toy import gold, prompts, weights
    gold("Add 15 and 7 step by step.", "15 + 7 = 22. Answer: 22.").reward        # 1.0
    AutoModelForCausalLM.from_pretrained(weights("policy"))

How the models were made, and how good they are: `weights/README.md`. To make them again: `python -m
prefkit.toy.make OUT_DIR`. Importing this package imports neither torch nor transformers.
"""

from pathlib import Path
from typing import Literal

from prefkit.toy.critic import explain, rationale
from prefkit.toy.demonstrators import demonstrate
from prefkit.toy.grading import Gold, gold
from prefkit.toy.pools import prompts
from prefkit.toy.world import draw_task, read_prompt, write_prompt

__all__ = [
    "Gold",
    "demonstrate",
    "draw_task",
    "explain",
    "gold",
    "prompts",
    "rationale",
    "read_prompt",
    "weights",
    "write_prompt",
]


def weights(name: Literal["policy", "reward"]) -> Path:
    """Return the folder of a shipped model, for `from_pretrained`."""
    return Path(__file__).parent / "weights" / name
