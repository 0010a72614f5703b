"""What the intervals of a comparison cover, what a copy of an arm is called, and what stopping early costs, by simulation.

    python benchmarks/intervals.py [--repeats 2000]

A difference of seed s on prompt i is an effect, plus normal noise of the prompt (variance 0.30), of the seed (as told) and of both
(0.20); `three-valued` rounds it to a win, a tie or a loss. Differences are in [-1, 1], twice the win rate less one, so a seed
deviation of 0.02 is one point of win rate. Coverage is the share of 95 % intervals that hold the effect.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from prefkit.comparing.bootstrap import mean_of, pigeonhole
from prefkit.comparing.differences import Difference, at_level, difference
from prefkit.comparing.length_control import (
    length_controlled,
    length_controlled_interval,
    length_controlled_values,
)
from prefkit.comparing.planning import TYPICAL, detectable
from prefkit.comparing.sequential import Spending, confidence_sequence, look, shares
from prefkit.estimators.preference import logistic

FRACTIONS = np.array([0.25, 0.5, 0.75, 1.0])


class Design(NamedTuple):
    """How a comparison is laid out."""

    seeds: int
    prompts: int
    seed_deviation: float
    effect: float = 0.0
    values: int = 0
    """3 rounds to -1, 0 and 1; 0 leaves the noise normal."""
    of_prompt: float = TYPICAL.prompt
    """Variance of prompts; with that of the rest it is one half."""


def grids(design: Design, repeats: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield grids [seeds, prompts] of differences."""
    shape = (design.seeds, design.prompts)
    for _ in range(repeats):
        grid = design.effect + draw.normal(0, (0.5 - design.of_prompt) ** 0.5, shape)
        grid += draw.normal(0, design.of_prompt**0.5, shape[1])
        grid += draw.normal(0, design.seed_deviation, (shape[0], 1))
        yield np.clip(np.round(grid), -1, 1) if design.values else grid


def intervals(design: Design, repeats: int, seed: int = 0) -> Iterator[Difference]:
    """Yield the differences found."""
    for grid in grids(design, repeats, np.random.default_rng(seed)):
        yield difference(grid, np.zeros_like(grid))


def covers(design: Design, repeats: int, seed: int = 0) -> dict[str, float]:
    """Return how often each kind of interval holds the effect."""
    held: dict[str, list[bool]] = {"two-way": [], "prompts": [], "seeds": []}
    for grid in grids(design, repeats, np.random.default_rng(seed)):
        found = difference(grid, np.zeros_like(grid))
        by_seed = grid.mean(axis=1).std(ddof=1) / np.sqrt(design.seeds)
        variants = {
            "two-way": found,
            "prompts": at_level(found._replace(error=found.error_of_prompts, df=design.prompts - 1), 0.95),
            "seeds": at_level(found._replace(error=float(by_seed), df=design.seeds - 1), 0.95),
        }
        for name, one in variants.items():
            held[name].append(one.low <= design.effect <= one.high)
    return {name: float(np.mean(flags)) for name, flags in held.items()}


def resampled(design: Design, repeats: int, draws: int = 400, seed: int = 0) -> float:
    """Return how often the pigeonhole interval holds the effect."""
    draw, held = np.random.default_rng(seed), 0
    for grid in grids(design, repeats, draw):
        found = pigeonhole(mean_of(grid), (design.seeds, design.prompts), draw, draws)
        held += found.low <= design.effect <= found.high
    return held / repeats


def powers(design: Design, repeats: int, *, student: bool) -> tuple[float, float]:
    """Return the detectable effect and how often a difference of that size is found."""
    variance = TYPICAL._replace(seed=design.seed_deviation**2)
    effect = detectable(variance, design.seeds, design.prompts, student=student).effect
    found = [one.low > 0 for one in intervals(design._replace(effect=effect), repeats)]
    return effect, float(np.mean(found))


def peeks(prompts: int, repeats: int, effect: float = 0.0, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Look after every prompt from the tenth: return the share of runs stopped, and the mean number of prompts looked at."""
    draw, told = np.random.default_rng(seed), {"95 % interval": [], "confidence sequence": []}
    for _ in range(repeats):
        values = np.clip(np.round(effect + draw.normal(0, 0.7, prompts)), -1, 1)
        t = np.arange(1, prompts + 1)
        mean = np.cumsum(values) / t
        error = np.sqrt((np.cumsum(values**2) / t - mean**2) / t)
        naive = np.abs(mean) > 1.96 * error
        naive[:9] = False
        bounds = confidence_sequence(values)
        for name, out in zip(told, (naive, (bounds.low > 0) | (bounds.high < 0)), strict=True):
            told[name].append(int(out.argmax()) + 1 if out.any() else 0)
    return {
        name: (float(np.mean([at > 0 for at in ends])), float(np.mean([at or prompts for at in ends])))
        for name, ends in told.items()
    }


def planned(design: Design, repeats: int, how: Spending | None, seed: int = 0) -> tuple[float, float]:
    """Look at each quarter of the prompts: return the share of runs stopped, and the mean share of prompts used.

    Without a way of spending, every look takes a 95 % interval.
    """
    allowed = np.full(len(FRACTIONS), 0.05) if how is None else shares(FRACTIONS, 0.05, how)
    stopped, used = 0, 0.0
    for grid in grids(design, repeats, np.random.default_rng(seed)):
        for fraction, share in zip(FRACTIONS, allowed, strict=True):
            part = grid[:, : int(fraction * design.prompts)]
            if look(difference(part, np.zeros_like(part)), float(share)).stop:
                stopped += 1
                break
        used += float(fraction)
    return stopped / repeats, used / repeats


def verdicts(prompts: int, deviation: float, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return wins and length gaps of three seeds [3, prompts]; prompts differ in log-odds by `deviation`."""
    gap = draw.normal(-200, 400, (3, prompts))
    odds = np.log(1.5) - 1.5 * np.tanh(gap / 400) + draw.normal(0, deviation, prompts)
    return (draw.random(gap.shape) < logistic(odds)).astype(np.float64), gap


def length_controlled_covers(
    deviation: float, repeats: int, draws: int = 300, seed: int = 0
) -> tuple[float, float]:
    """Return how often both intervals of a length-controlled win rate hold what endless prompts give: 3 seeds, 300 prompts.

    The bootstrap, which is slow, for a fifth of the repeats.
    """
    draw, held, resampled_ = np.random.default_rng(seed), 0, 0
    truth = length_controlled(*(part.ravel() for part in verdicts(300_000, deviation, draw))).rate
    for at in range(repeats):
        wins, gap = verdicts(300, deviation, draw)
        values = length_controlled_values(wins, gap)
        found = difference(values, np.full_like(values, truth))
        held += found.low <= 0 <= found.high
        if at % 5 == 0:
            other = length_controlled_interval(wins, gap, draw, draws)
            resampled_ += other.low <= truth <= other.high
    return held / repeats, resampled_ / len(range(0, repeats, 5))


def tell_coverage(repeats: int) -> None:
    print(
        "| seeds | prompts | seed deviation | two-way | over prompts | over seeds | two-way, no variance of prompts |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for seeds, prompts, deviation in product((2, 3, 4, 5, 8), (100, 500), (0.0, 0.02, 0.05, 0.1)):
        design = Design(seeds, prompts, deviation)
        flat = covers(design._replace(of_prompt=0.0), repeats)["two-way"]
        cells = " | ".join(f"{one:.3f}" for one in (*covers(design, repeats).values(), flat))
        print(f"| {seeds} | {prompts} | {deviation} | {cells} |", flush=True)
    print(
        "\n| seeds | prompts | seed deviation | two-way | pigeonhole |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    for seeds, deviation in product((3, 5, 10), (0.0, 0.05)):
        design = Design(seeds, 200, deviation)
        own, other = covers(design, repeats)["two-way"], resampled(design, repeats // 2)
        print(f"| {seeds} | 200 | {deviation} | {own:.3f} | {other:.3f} |", flush=True)


def tell_copies_and_power(repeats: int) -> None:
    print("\n| a copy of an arm, three-valued | called different |\n| --- | ---: |")
    for design in (
        Design(3, 500, 0.02, values=3),
        Design(5, 500, 0.02, values=3),
        Design(5, 500, 0.05, values=3),
    ):
        alarms = float(np.mean([one.p < 0.05 for one in intervals(design, repeats)]))
        print(f"| {design.seeds} seeds, 500 prompts, deviation {design.seed_deviation} | {alarms:.3f} |")
    print("\n| seeds | prompts | deviation | normal law | found | Student | found |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for seeds, prompts, deviation in (
        (3, 500, 0.02),
        (5, 500, 0.02),
        (3, 2000, 0.02),
        (3, 500, 0.05),
        (5, 500, 0.05),
    ):
        design = Design(seeds, prompts, deviation)
        cells = [f"{one:.3f}" for kind in (False, True) for one in powers(design, repeats, student=kind)]
        print(f"| {seeds} | {prompts} | {deviation} | " + " | ".join(cells) + " |", flush=True)


def tell_stopping(repeats: int) -> None:
    print("\n| looking after every prompt, 1,000 of them | no difference | prompts | 0.1 | prompts |")
    print("| --- | ---: | ---: | ---: | ---: |")
    none, some = peeks(1000, repeats), peeks(1000, repeats, effect=0.1)
    for name in none:
        print(
            f"| {name} | {none[name][0]:.3f} | {none[name][1]:.0f} | {some[name][0]:.3f} | {some[name][1]:.0f} |"
        )
    print(
        "\n| four looks, 5 seeds, 400 prompts | no difference | 0.1 | of the prompts |\n| --- | ---: | ---: | ---: |"
    )
    ways: tuple[Spending | None, ...] = (None, "obrien-fleming", "pocock")
    for how in ways:
        alarms, found = (planned(Design(5, 400, 0.0, effect), repeats, how) for effect in (0.0, 0.1))
        print(f"| {how or '95 % interval'} | {alarms[0]:.3f} | {found[0]:.3f} | {found[1]:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    tell_coverage(repeats)
    tell_copies_and_power(repeats)
    tell_stopping(repeats)
    print(
        "\n| length-controlled win rate, 3 seeds, 300 prompts | two-way | pigeonhole |\n| --- | ---: | ---: |"
    )
    for deviation in (0.0, 1.0, 3.0):
        own, other = length_controlled_covers(deviation, repeats)
        print(f"| prompts differ by {deviation} in log-odds | {own:.3f} | {other:.3f} |", flush=True)


if __name__ == "__main__":
    main()
