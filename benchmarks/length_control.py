"""Length-controlled win rates of public models: prefkit's figures beside those of alpaca_eval's own code, on the same annotations.

    python benchmarks/length_control.py FOLDER [--write FILE]

FOLDER holds judgements.parquet and responses.parquet of AlpacaEval 2 (judge weighted_alpaca_eval_gpt4_turbo). Without
alpaca_eval in the environment, only prefkit's figures are printed. alpaca_eval fetches the difficulty of each prompt and the
judged answers of two gamed baselines; neither is among the annotations, so both sides get the same stand-ins: a prompt's difficulty
is how often models win on it, and gamed rows are the baseline's answers made longer and shorter. The figures of both sides
are therefore comparable with each other and not with the published ones, which also rest on twice as many prompts.
"""

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import polars as pl

from prefkit.comparing.length_control import Gamed, length_controlled, preference_of
from prefkit.estimators.preference import logistic

JUDGE, BASELINE = "weighted_alpaca_eval_gpt4_turbo", "gpt4_1106_preview"


class Judged(NamedTuple):
    """Preferences over the baseline. Arrays are float64 [models, prompts], NaN not judged, unless said otherwise."""

    models: list[str]
    preference: np.ndarray
    chars: np.ndarray
    baseline: np.ndarray
    """Characters [prompts]."""
    difficulty: np.ndarray
    """[prompts]"""


def read(folder: Path) -> Judged:
    judged = pl.read_parquet(folder / "judgements.parquet")
    judged = judged.filter(pl.col("annotator") == JUDGE, pl.col("generator_2") != BASELINE)
    texts = pl.read_parquet(folder / "responses.parquet")
    texts = texts.select("prompt_id", "model", chars=pl.col("response").str.len_chars().cast(pl.Float64))
    told = judged.join(
        texts, left_on=["prompt_id", "generator_2"], right_on=["prompt_id", "model"], how="inner"
    )
    models = sorted(told["generator_2"].unique().to_list())
    wide = {
        name: told.pivot("generator_2", index="prompt_id", values=name).sort("prompt_id")
        for name in ("preference", "chars")
    }
    arrays = {name: frame.select(models).cast(pl.Float64).to_numpy().T for name, frame in wide.items()}
    base = (
        wide["chars"]
        .select("prompt_id")
        .join(texts.filter(pl.col("model") == BASELINE), on="prompt_id", how="left")
    )
    wins = preference_of(arrays["preference"])
    easy = np.log(np.nanmean(np.clip(wins, 0.01, 0.99), axis=0))
    difficulty = (easy - easy.mean()) / easy.std()
    return Judged(models, wins, arrays["chars"], base.sort("prompt_id")["chars"].to_numpy(), difficulty)


def stand_in(judged: Judged) -> Gamed:
    """Return rows of two baselines that are as good as the baseline and half as long, or a third longer."""
    draw = np.random.default_rng(0)
    parts = []
    for ratio in (0.5, 1.33):
        gap = judged.baseline * (1 - ratio * np.exp(draw.normal(0, 0.25, len(judged.baseline))))
        gap /= gap.std(ddof=1)
        parts.append((logistic(-1.6 * np.tanh(gap) + 0.8 * judged.difficulty), gap, judged.difficulty))
    return Gamed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def ours(judged: Judged, model: str) -> dict[str, float]:
    """Return win rates in percent."""
    at = judged.models.index(model)
    known = ~np.isnan(judged.preference[at])
    wins, hard = judged.preference[at][known], judged.difficulty[known]
    gap = (judged.baseline - judged.chars[at])[known]
    minimal = length_controlled(wins, gap)
    return {
        "raw": 100 * minimal.raw,
        "length_controlled_v1": 100 * length_controlled(wins, gap, hard, stand_in(judged)).rate,
        "length_controlled_noreg": 100 * length_controlled(wins, gap, hard).rate,
        "minimal": 100 * minimal.rate,
    }


def theirs(judged: Judged, model: str) -> dict[str, float]:
    """Return what alpaca_eval says, its downloads replaced by the stand-ins."""
    import pandas as pd
    from alpaca_eval.metrics import glm_winrate

    at, played = judged.models.index(model), stand_in(judged)
    columns = {"preference": played.preference, "std_delta_len": played.gap}
    index = np.tile(np.arange(len(judged.baseline)), 2)
    gamed = pd.DataFrame(
        {**columns, "instruction_difficulty": played.difficulty, "index": index, "model": "gamed"}
    )
    gamed["not_gamed_baseline"] = False
    known = np.flatnonzero(~np.isnan(judged.preference[at]))
    rows = {
        "index": known,
        "preference": 1 + judged.preference[at][known],
        "output_1": ["x" * int(judged.baseline[one]) for one in known],
        "output_2": ["x" * int(judged.chars[at][one]) for one in known],
        "generator_1": BASELINE,
        "generator_2": model,
        "annotator": JUDGE,
    }
    told: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gamed.csv"
        gamed.to_csv(path, index=False, float_format="%.17g")
        with mock.patch.object(glm_winrate, "hf_hub_download", return_value=path):
            for name in ("length_controlled_v1", "length_controlled_noreg"):
                frame = pd.DataFrame(rows).set_index("index", drop=True)
                found = glm_winrate.get_length_controlled_winrate(frame, name, save_weights_dir=None)
                told |= {"raw": found["win_rate"], name: found["length_controlled_winrate"]}
    return told


def main() -> None:
    """Print a table, and write alpaca_eval's figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    judged = read(options.folder)
    installed = importlib.util.find_spec("alpaca_eval") is not None
    kept: dict[str, Any] = {}
    worst = 0.0
    print("| model | raw | full | without gamed rows | minimal | alpaca_eval: full | without gamed rows |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for model in judged.models:
        own = ours(judged, model)
        other = theirs(judged, model) if installed else {}
        worst = max(worst, *(abs(own[name] - value) for name, value in other.items()), 0.0)
        kept[model] = {name: round(value, 6) for name, value in other.items()}
        cells = [*own.values(), *(other[name] for name in list(own)[1:3] if other)]
        print(f"| {model} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    if installed:
        print(f"largest difference: {worst:.2g} points over {len(kept)} models")
    if options.write:
        options.write.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
