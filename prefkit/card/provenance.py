"""Who answered and how to make it again: models, engines, spending, the recipe, digests and versions."""

import re
import shlex
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from prefkit.card.facts import Facts
from prefkit.card.markdown import code, count, fence, public, public_tree, table
from prefkit.manifest import Made, Used, add_used
from prefkit.yaml_text import yaml_text

__all__ = ["digests", "is_pinned", "models", "recipe_text", "reproduction", "versions"]

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_ORDER = (
    "name",
    "license",
    "language",
    "seed",
    "models",
    "data",
    "build",
    "train",
    "compare",
    "fail_if",
    "max_failures",
)
_HOST = re.compile(r"\bhttps?://\S+")


def models(facts: Facts) -> str:
    """List the models with their revisions, who served them, and what was asked of them."""
    cells = [
        (
            code(name),
            code(public_tree({"id": model.get("id")})["id"]),
            code(model.get("revision")),
            _pin(model),
        )
        for name, model in facts.models().items()
    ]
    if not cells:
        return "No model was asked."
    lines = [table(("name", "model", "revision", "pinned"), cells)]
    asked = [(step.name, step.manifest.made) for step in facts.steps if step.manifest.made.engines]
    if asked:
        head = ("step", "engine", "answered:", "remembered:", "tokens in:", "tokens out:")
        lines.append(table(head, [(code(name), _engines(made), *_spent(made)) for name, made in asked]))
        lines.append("Answered: by an engine. Remembered: from an earlier build, asked for nothing.")
        lines += _totals([made for _, made in asked])
    return "\n\n".join(lines)


def _totals(asked: Sequence[Made]) -> list[str]:
    """Say what each model took in all steps, and what that cost where prices were given."""
    used = add_used(made.models for made in asked)
    if not used:
        return []
    head = ("model", "answered:", "failed:", "tokens in:", "tokens out:", "seconds:", "dollars:")
    lines = [table(head, [(code(name), *_took(one)) for name, one in used.items()])]
    told = [one.dollars for one in used.values() if one.dollars is not None]
    every = sum(one.tokens_in + one.tokens_out for one in used.values())
    total = f"In all {count(sum(one.calls for one in used.values()))} answers and {count(every)} tokens"
    total += f", for {sum(told, Decimal(0)):.4f} dollars where a price was given." if told else "."
    saved = sum(one.saved_in + one.saved_out for one in used.values())
    if saved:
        total += f" What was remembered had taken {count(saved)} tokens when it was first answered."
    if any(one.uncounted for one in used.values()):
        total += " ≥ and –: answers came without a count of their tokens."
    if any(one.failed for one in used.values()):
        total += " What failed requests took is not known."
    return [*lines, total]


def _took(used: Used) -> tuple[str, ...]:
    at_least = "≥ " if used.uncounted else ""
    known = [f"{at_least}{count(each)}" for each in (used.tokens_in, used.tokens_out)]
    tokens = known if used.tokens_in or used.tokens_out or not used.uncounted else ["–", "–"]
    cost = "–" if used.dollars is None else f"{at_least}{used.dollars:.4f}"
    return (count(used.calls), count(used.failed), *tokens, f"{used.seconds:,.1f}", cost)


def is_pinned(model: Any) -> bool:
    """Say whether a model is pinned to a commit. The toy models are part of prefkit, and so of its version."""
    return bool(_COMMIT.fullmatch(str(model.get("revision")))) or str(model.get("id")).startswith("prefkit/")


def _pin(model: Any) -> str:
    return "yes" if is_pinned(model) else "no"


def _engines(made: Made) -> str:
    return "; ".join(
        f"{code(model)}: {code(_HOST.sub('http', version))}" for model, version in made.engines.items()
    )


def _spent(made: Made) -> tuple[str, ...]:
    return tuple(count(each) for each in (made.calls, made.remembered, made.tokens_in, made.tokens_out))


def reproduction(facts: Facts) -> str:
    """Say how to make the dataset again."""
    sets = [public(str(each)) for each in facts.recipe.get("sets", ())]
    command = f"pip install prefkit=={facts.last.made.prefkit}\nprefkit build recipe.yaml"
    lines = [
        "Save the recipe as `recipe.yaml`, put the sources where it names them, and run:",
        fence(command, "sh"),
    ]
    if sets:
        given = " ".join(f"--set {shlex.quote(each)}" for each in sets)
        lines += ["It was run with these changes, which the recipe here has already:", fence(given, "sh")]
    lines += [
        "The recipe as it was run, paths reduced to their last part:",
        fence(recipe_text(facts), "yaml"),
        f"The rows are the same if the digest of the last step is {code(facts.last.digest)}.",
    ]
    return "\n\n".join(lines)


def recipe_text(facts: Facts) -> str:
    """Return the recipe as YAML, paths reduced to their last part."""
    plain = dict(
        sorted(facts.recipe.items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else -1)
    )
    return yaml_text(
        public_tree({key: value for key, value in plain.items() if key != "sets" and value not in ({}, [])})
    )


def digests(facts: Facts) -> str:
    """List the identity of every step and of what it made."""
    cells = [
        (
            code(step.name),
            str(step.manifest.version),
            code(step.manifest.key),
            code(step.manifest.digest),
            count(len(step.manifest.shards)),
        )
        for step in facts.steps
    ]
    return table(("step", "version", "key", "digest of its rows", "shards:"), cells)


def versions(facts: Facts) -> str:
    """List the software that made the steps."""
    made = [(step.name, step.manifest.made) for step in facts.steps]
    cells = dict[tuple[str, str, str], list[str]]()
    for name, each in made:
        plugin = "" if each.plugin.partition(" ")[0] == "prefkit" else each.plugin
        cells.setdefault((each.prefkit, each.python, plugin), []).append(name)
    rows = [
        (", ".join(code(name) for name in names), code(prefkit), code(python), code(plugin or None))
        for (prefkit, python, plugin), names in cells.items()
    ]
    return table(("steps", "prefkit", "python", "plug-in"), rows)
