"""A random toy policy on disk, and pairs about it whose reference log-probs are its own."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from prefkit.columns import COLUMNS
from prefkit.engines import Conversation, Message, Model
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.toy.model import make_model, make_tokenizer

WORDS = "red blue green seven twelve pens cups please send thanks friday monday anna ben total order"


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = make_tokenizer([WORDS])
    torch.manual_seed(0)
    make_model(tokenizer, 0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Model(id=str(folder))


@pytest.fixture(scope="session")
def tokenizer(policy: Model) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(policy.id)


def make_pairs(
    policy: Model | None, count: int = 24, prompts: int = 12, held_out: int = 4, seed: int = 0
) -> pa.Table:
    """Pairs of random words, two a prompt; the last `held_out` prompts are split `test`."""
    draw = np.random.default_rng(seed)
    words = WORDS.split()

    def text(most: int) -> str:
        return " ".join(draw.choice(words, size=draw.integers(2, most)))

    texts = [text(12) for _ in range(prompts)]
    rows = []
    for at in range(count):
        which = at * prompts // count
        rows.append(
            {
                "id": f"pair{at}",
                "prompt_id": f"prompt{which}",
                "prompt": [{"role": "user", "content": texts[which]}],
                "source": "test",
                "chosen": [{"role": "assistant", "content": text(14)}],
                "rejected": [{"role": "assistant", "content": text(14)}],
                "split": "test" if which >= prompts - held_out else "train",
            }
        )
    schema = pa.schema([(name, COLUMNS[name].type) for name in rows[0]])
    table = pa.Table.from_pylist(rows, schema)
    return table if policy is None else with_reference(table, policy)


def with_reference(table: pa.Table, policy: Model) -> pa.Table:
    engine = TransformersEngine("cpu")
    for side in ("chosen", "rejected"):
        asked = [
            Conversation(
                tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"]),
                tuple(Message(turn["role"], turn["content"]) for turn in row[side]),
            )
            for row in table.to_pylist()
        ]
        found = dict(engine.log_probs(policy, asked))
        values = pa.array([found[at].logp for at in range(len(asked))], pa.float64())
        table = table.append_column(f"ref_{side}_logp", values)
    return table.append_column("ref_fingerprint", pa.array([engine.fingerprint(policy)] * table.num_rows))


@pytest.fixture(scope="session")
def pairs(policy: Model) -> pa.Table:
    return make_pairs(policy)
