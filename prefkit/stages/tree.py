"""Tree: let a policy write an answer step by step, in several ways at each step, and search for what they are worth.

Each prompt has a tree: a node is an answer up to some step. A step is sampled up to `separator`; the step at the last
depth goes on to the end. An answer ends where the policy adds nothing, where `final` is said, or at the last depth; a
`rule` then says whether it is right, and where it does not end a `judge` may be asked whether it is right so far.
Visits and Q come of `prefkit.estimators.tree_search`. Every node is a response that names the one it goes on from in
`parent_id`; `tree-pairs` pairs the children of one parent.

A judge that is shown the reference answer knows what the policy does not: its scores are for training data, and never
to measure a policy by. Trees of all prompts of a shard grow side by side, one batch of requests for each level asked.

Source: MCTS-DPO (Xie et al., 2024), arXiv 2405.00451.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple, Self, final

import pyarrow as pa
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.engines import Completion, Failure, Message, Model, Request
from prefkit.estimators.tree_search import Node, Rules, Step, prior, search
from prefkit.judging.verdicts import odds
from prefkit.prompts import fill, spoken, template
from prefkit.rules import AnyRule, judged
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.tables import message_tuples, put, to_messages

__all__ = ["Tree"]

_NO_STEPS = "no-steps"
_LETTERS = ("A", "B")
_TOLD = "tree.value.v1"


@final
class Tree(Stage):
    """Write a tree of partial answers to each prompt: every node a response, with its visits and its Q."""

    name: ClassVar[str] = "tree"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("prompt",), "response")
    random: ClassVar[bool] = True

    model: Model
    """Who writes: the policy that is trained."""
    rule: AnyRule | None = None
    """Says whether an answer that has ended is right; written as `score`."""
    at_least: float = 1.0
    """The least score of a right answer: worth 1; others are worth -1."""
    judge: Model | None = None
    """Asked of each node whether it is right so far: worth how probable `yes` is."""
    reference: bool = False
    """Whether the judge is shown `reference_answer`."""
    n: PositiveInt = 2
    """Steps sampled at each node; those that repeat another are dropped."""
    depth: PositiveInt = 3
    """Steps of an answer; the last one goes on to its end."""
    iterations: PositiveInt = 64
    """Walks down the tree for each step that is settled on; four times as many for the first. They cost no model calls."""
    explore: NonNegativeFloat = 1.0
    """How much a likely and seldom visited step is preferred to one that did well: c of PUCT."""
    temperature: NonNegativeFloat = 1.0
    """Of sampling."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the fewest tokens whose probability reaches this."""
    max_tokens: PositiveInt = 128
    """Longest step, in tokens; one that is cut off ends the answer."""
    separator: Annotated[str, Field(min_length=1)] = "\n"
    """What the policy writes between steps."""
    final: str = ""
    """What an answer says in its last step: `The answer is`. Empty: it ends where the policy adds nothing."""

    @model_validator(mode="after")
    def _knows_worth(self) -> Self:
        if self.rule is None and self.judge is None:
            raise ValueError("give a rule, a judge, or both: nothing else says what a step is worth")
        if self.reference and self.judge is None:
            raise ValueError("reference is for the judge, and there is none")
        return self

    def reads(self) -> Columns:
        asked = {} if self.rule is None else dict(self.rule.reads())
        asked.pop("response", None)
        shown = types("reference_answer") if self.reference else {}
        return {**types("prompt_id", "prompt"), **asked, **shown}

    def writes(self) -> Columns:
        made = types("id", "response", "model", "origin", "finish", "n_tokens", "sampler_logp")
        made = {**made, **types("parent_id", "prefix_end", "step_index", "visits", "q_value")}
        return made if self.rule is None else {**made, **types("score")}

    def drops(self) -> Collection[str]:
        return (_NO_STEPS,)

    def touches(self) -> Collection[str]:
        return ("tools",)

    def cost(self) -> Cost:
        most = sum(self.n**depth for depth in range(1, self.depth + 1))
        return Cost(
            calls=most * (1 if self.judge is None else 2), tokens_out=most * self.max_tokens, rows=most
        )

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        world = _World(
            table,
            ctx,
            table["prompt_id"].to_pylist(),
            message_tuples(table["prompt"]),
            table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows,
            table["reference_answer"].to_pylist() if self.reference else [None] * table.num_rows,
        )
        trees, errors, written = self._grown(world)
        table, gone = ctx.fail(table, errors), [error is not None for error in errors]
        nodes = [(row, node) for row, tree in enumerate(trees) if not gone[row] for node in tree.all()[1:]]
        alone = [not tree.children for row, tree in enumerate(trees) if not gone[row]]
        ctx.drop(table, [_NO_STEPS if each else None for each in alone])
        return self._rows(world.table, nodes, written)

    def _grown(self, world: "_World") -> tuple[list[Node], list[str | None], "_Written"]:
        """Return each prompt's tree, why it has none, and what is known of each node."""
        trees = [Node() for _ in world.prompts]
        errors: list[str | None] = [None] * len(trees)
        written: _Written = {}
        searches = [search(tree, Rules(self.depth, self.iterations, explore=self.explore)) for tree in trees]
        wanted = {row: node for row, each in enumerate(searches) if (node := next(each, None)) is not None}
        while wanted:
            found, failed = self._steps(wanted, world)
            written |= found
            for row, error in failed.items():
                errors[row] = error
            steps = _by_row(found)
            going: dict[int, Node] = {}
            for row in wanted.keys() - failed.keys():
                try:
                    going[row] = searches[row].send([made.step for made in steps.get(row, ())])
                except StopIteration:
                    continue
            wanted = dict(sorted(going.items()))
        return trees, errors, written

    def _steps(self, wanted: Mapping[int, Node], world: "_World") -> tuple["_Written", dict[int, str]]:
        """Return what follows the node of each row, by row and path, and the rows for which a model failed."""
        asked = [(row, turn) for row in wanted for turn in range(self.n)]
        requests = [self._request(row, wanted[row], turn, world) for row, turn in asked]
        answers = world.ctx.engines.generate(self.model, requests)
        made: _Written = {}
        failed: dict[int, str] = {}
        seen: set[tuple[int, str]] = set()
        numbers: dict[int, int] = {}
        for (row, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Failure):
                failed[row] = answer.error
                continue
            new = self._node(wanted[row], answer)
            same = (row, " ".join(new.step.text.split()))
            if new.step.text and same not in seen:
                seen.add(same)
                numbers[row] = number = numbers.get(row, -1) + 1
                made[row, (*_path(wanted[row]), number)] = new
        made = {at: new for at, new in made.items() if at[0] not in failed}
        return self._worth(made, wanted, world, failed), failed

    def _request(self, row: int, node: Node, turn: int, world: "_World") -> Request:
        begun = (Message("assistant", node.text),) if node.text else ()
        key = "/".join([world.ids[row], *map(str, _path(node))])
        return Request(
            (*world.prompts[row], *begun),
            self.max_tokens,
            self.temperature,
            self.top_p,
            0,
            rng.draw_seed(world.ctx.seed, self.name, key, turn),
            () if self._is_last(node) else (self.separator,),
            world.tools[row],
        )

    def _mark(self) -> str:
        """Return the separator without the spaces that the policy writes with what follows, as tokens begin with them."""
        return self.separator.rstrip(" ") or self.separator

    def _is_last(self, node: Node) -> bool:
        return node.depth + 1 == self.depth

    def _node(self, node: Node, answer: Completion) -> "_Made":
        said = answer.text
        ends = self._is_last(node) or not said.strip() or answer.finish == "length"
        ends = ends or bool(self.final and self.final in said)
        text = node.text + said + ("" if ends else self._mark())
        text = text if said.strip() else node.text.removesuffix(self._mark())
        likely = prior(answer.logp, answer.tokens) if answer.logp is not None else 1.0
        return _Made(Step(text, None, likely, ends), answer, None, len(node.text))

    def _worth(
        self, made: "_Written", wanted: Mapping[int, Node], world: "_World", failed: dict[int, str]
    ) -> "_Written":
        """Return the same with what each step is worth: conf / max(depth - 3, 1) + outcome."""
        scores = self._outcomes(made, world)
        beliefs = self._beliefs(made, world, failed)
        valued: _Written = {}
        for at, new in made.items():
            score, belief = scores.get(at), beliefs.get(at)
            outcome = None if score is None else 1.0 if score >= self.at_least else -1.0
            far = max(wanted[at[0]].depth + 1 - 3, 1)
            known = [part for part in (None if belief is None else belief / far, outcome) if part is not None]
            step = new.step._replace(value=sum(known) if known else None)
            valued[at] = new._replace(step=step, score=score)
        return {at: new for at, new in valued.items() if at[0] not in failed}

    def _outcomes(self, made: "_Written", world: "_World") -> dict["_At", float]:
        """Return the score of each answer that has ended and that the rule can tell of."""
        ended = [at for at, new in made.items() if new.step.ends]
        if self.rule is None or not ended:
            return {}
        rows = world.table.take([row for row, _ in ended])
        said = to_messages(pa.array([made[at].step.text for at in ended], pa.string()), "assistant")
        found = judged(self.rule, put(rows, "response", said))
        for reason, count in found.notes.items():
            world.ctx.notes[f"tree/{reason}"] += count
        scores = zip(ended, found.scores.to_pylist(), strict=True)
        return {at: score for at, score in scores if score is not None}

    def _beliefs(self, made: "_Written", world: "_World", failed: dict[int, str]) -> dict["_At", float]:
        """Return how probable the judge finds it that each step is right so far; without those it says nothing of."""
        if self.judge is None or not made:
            return {}
        requests = [self._question(at, new.step.text, world) for at, new in made.items()]
        beliefs: dict[_At, float] = {}
        for at, answer in zip(made, world.ctx.engines.generate(self.judge, requests), strict=True):
            if isinstance(answer, Failure):
                failed[at[0]] = answer.error
                continue
            shares, letter = odds(answer.tops, _LETTERS), answer.text.strip()[:1].upper()
            belief = shares[0] if shares else {"A": 1.0, "B": 0.0}.get(letter)
            if belief is None:
                world.ctx.notes["tree/no-verdict"] += 1
            else:
                beliefs[at] = belief
        return beliefs

    def _question(self, at: "_At", text: str, world: "_World") -> Request:
        known = world.references[at[0]]
        words = {
            "prompt": spoken(world.prompts[at[0]]),
            "solution": text,
            "reference": f"\nThe right answer is: {known}\n" if known else "",
        }
        asked = (Message("user", fill(template(_TOLD), words)),)
        return Request(asked, 4, 0.0, choices=_LETTERS, top_logprobs=5)

    def _rows(self, table: pa.Table, nodes: Sequence[tuple[int, Node]], written: "_Written") -> pa.Table:
        rows = table.take(pa.array([row for row, _ in nodes], pa.int64()))
        made = [written[row, _path(node)] for row, node in nodes]
        prompts = rows["prompt_id"].to_pylist()
        ids = [
            rng.child_id(self.name, prompt, *map(str, _path(node)))
            for prompt, (_, node) in zip(prompts, nodes, strict=True)
        ]
        names = {id(node): name for (_, node), name in zip(nodes, ids, strict=True)}
        answers = [new.answer for new in made]
        columns = {
            "id": ids,
            "response": to_messages(pa.array([node.text for _, node in nodes], pa.string()), "assistant"),
            "model": [self.model.id] * len(nodes),
            "origin": [self.name] * len(nodes),
            "finish": [
                each.finish if new.step.ends else "step" for each, new in zip(answers, made, strict=True)
            ],
            "n_tokens": [answer.tokens or None for answer in answers],
            "sampler_logp": [answer.logp for answer in answers],
            "parent_id": [names.get(id(node.parent)) for _, node in nodes],
            "prefix_end": [new.begins for new in made],
            "step_index": [node.depth for _, node in nodes],
            "visits": [node.visits for _, node in nodes],
            "q_value": [node.q for _, node in nodes],
            "score": [new.score for new in made],
        }
        for name, kind in self.writes().items():
            values = columns[name]
            rows = put(rows, name, values if isinstance(values, pa.Array) else pa.array(values, kind))
        return rows.select(self.becomes(table.schema).names)


class _World(NamedTuple):
    """The prompts of a shard and what is around them."""

    table: pa.Table
    ctx: Context
    ids: Sequence[str]
    prompts: Sequence[tuple[Message, ...]]
    tools: Sequence[str | None]
    references: Sequence[str | None]


class _Made(NamedTuple):
    """A step, and what is known of it."""

    step: Step
    answer: Completion
    score: float | None
    begins: int
    """How many characters stood before it."""


_At = tuple[int, tuple[int, ...]]
"""A prompt's row, and the number of each step on the way to a node."""
_Written = dict[_At, _Made]


def _path(node: Node) -> tuple[int, ...]:
    return () if node.parent is None else (*_path(node.parent), node.number)


def _by_row(made: _Written) -> dict[int, list[_Made]]:
    found: dict[int, list[_Made]] = {}
    for (row, _), each in made.items():
        found.setdefault(row, []).append(each)
    return found
