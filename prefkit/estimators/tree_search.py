"""Tree search: where in a tree of partial answers to go on writing, and what each part turned out to be worth.

A node is an answer up to some step. `search` is a generator: it yields the node that it wants to go on from, is sent
the steps that follow it, and returns when it has looked long enough; so that a caller can run the searches of many
prompts side by side and ask a model for all of them at once.

    reward     r = value(child) - value(parent)
    selection  Q + c p sqrt(N_parent) / (1 + N)                 (PUCT)
    back-up    V = sum max(1, N) Q / sum max(1, N) over children;  Q = r + gamma V;  N grows by one

What a node is worth (`value`) is for the caller to say: an outcome where an answer ends, a judge's belief elsewhere.
The released code counts a visit of the root twice, and none of those below a step that is settled on; here each visit
counts once, at every node on the way from the root.

Source: Monte Carlo Tree Search Boosts Reasoning via Iterative Preference Learning (MCTS-DPO, 2024), arXiv 2405.00451.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from math import exp, sqrt
from typing import NamedTuple, Self

__all__ = ["Node", "Rules", "Step", "grow", "prior", "search"]


class Rules(NamedTuple):
    """How long and how widely is searched."""

    depth: int = 3
    """Steps of an answer that are searched."""
    iterations: int = 64
    """Walks down the tree for each step of the answer that is settled on."""
    first: int = 4
    """How many times as many for the first one."""
    explore: float = 1.0
    """c: how much a likely and seldom visited step is preferred to one that did well."""
    discount: float = 1.0
    """gamma."""


class Step(NamedTuple):
    """What may follow a node."""

    text: str
    """The answer up to the end of this step."""
    value: float | None
    """What it is worth; None if that is not known: then as much as what it follows."""
    prior: float
    """How likely the writer finds it: see `prior`."""
    ends: bool
    """Whether the answer ends with it."""


@dataclass(eq=False)
class Node:
    """An answer up to some step."""

    text: str = ""
    value: float = 0.0
    prior: float = 1.0
    ends: bool = False
    parent: Self | None = None
    depth: int = 0
    reward: float = 0.0
    q: float = 0.0
    v: float = 0.0
    visits: int = 0
    children: list[Self] | None = None
    """None until steps were asked for."""
    number: int = field(default=0)
    """Which of its parent's steps it is."""

    def all(self) -> list[Self]:
        """Return it and everything below it, parents before children."""
        return [self, *(node for child in self.children or () for node in child.all())]


def prior(logp: float, tokens: int, power: float = 1.25) -> float:
    """Return exp(logp / tokens^power): how likely a step is, in (0, 1], long steps not much less than short ones."""
    return exp(logp / max(tokens, 1) ** power)


def grow(node: Node, steps: Sequence[Step]) -> None:
    """Add steps below a node. Q starts at what the parent is worth so far and the step's own reward."""
    node.children = []
    for number, step in enumerate(steps):
        value = node.value if step.value is None else step.value
        reward = value - node.value
        made = Node(step.text, value, step.prior, step.ends, node, node.depth + 1, reward, node.v + reward)
        made.number = number
        node.children.append(made)


def search(root: Node, rules: Rules) -> Generator[Node, Sequence[Step], None]:
    """Search below `root`: yields nodes to go on from, and is sent their steps. The tree is left with its counts."""
    at: Node = root
    above: list[Node] = []
    while not at.ends and at.depth < rules.depth:
        for _ in range(rules.iterations * (rules.first if at is root else 1)):
            path = [*above, *_descend(at, rules)]
            leaf = path[-1]
            if leaf.children is None and not leaf.ends and leaf.depth < rules.depth:
                grow(leaf, (yield leaf))
                if leaf.children:
                    path.append(_best(leaf, rules))
            _back_up(path, rules)
        if not at.children:
            return
        above.append(at)
        at = max(at.children, key=_standing)


def _descend(node: Node, rules: Rules) -> list[Node]:
    path = [node]
    while path[-1].children:
        path.append(_best(path[-1], rules))
    return path


def _best(node: Node, rules: Rules) -> Node:
    """Return the child to visit next; of equals the first."""
    reach = rules.explore * sqrt(node.visits)
    return max(node.children or (), key=lambda child: child.q + reach * child.prior / (1 + child.visits))


def _back_up(path: Sequence[Node], rules: Rules) -> None:
    for node in reversed(path):
        if node.children:
            weights = [max(1, child.visits) for child in node.children]
            total = sum(weight * child.q for weight, child in zip(weights, node.children, strict=True))
            node.v = total / sum(weights)
        node.q = node.reward + rules.discount * node.v
        node.visits += 1


def _standing(node: Node) -> tuple[float, float, float]:
    """How good a step is to settle on: visited often, and its own steps unevenly; then Q, then V."""
    visits = [child.visits for child in node.children or ()] or [0]
    return node.visits * (1 + max(visits) - min(visits)), node.q, node.v
