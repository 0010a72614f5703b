"""Tree search: priors, selection, back-up, and where a search goes."""

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.estimators.tree_search import Node, Rules, Step, _back_up, grow, prior, search


def test_the_worked_example_of_the_paper():
    # golden data.json V05
    assert prior(-1.0, 2) == pytest.approx(0.656752, abs=1e-6)
    assert prior(-4.0, 3) == pytest.approx(0.363086, abs=1e-6)
    assert 0.6 + prior(-1.0, 2) * sqrt(4) / (1 + 2) == pytest.approx(1.037835, abs=1e-6)
    root = Node()
    grow(root, [Step("a", 0.6, 0.656752, ends=False), Step("b", 0.3, 0.363086, ends=False)])
    a, b = root.children
    grow(a, [Step("a1", 1.9, 1.0, ends=True), Step("a2", 0.2, 1.0, ends=True)])
    assert [child.reward for child in a.children] == pytest.approx([1.3, -0.4])
    _back_up([root, a, a.children[0]], Rules())
    assert a.v == pytest.approx(0.45)
    assert a.q == pytest.approx(1.05)
    assert root.v == pytest.approx(0.675)
    assert (root.visits, a.visits, b.visits) == (1, 1, 0)


def run(values: dict[str, float], rules: Rules) -> tuple[Node, list[str]]:
    """Search a tree whose steps are the letters l and r; an answer of three letters ends and has a value."""
    root, asked = Node(), []
    going = search(root, rules)
    try:
        node = next(going)
        while True:
            asked.append(node.text)
            steps = [node.text + letter for letter in "lr"]
            ends = len(steps[0]) == rules.depth
            node = going.send([Step(s, values.get(s) if ends else None, 0.5, ends) for s in steps])
    except StopIteration:
        return root, asked


def test_a_search_finds_the_one_right_answer_and_visits_its_way_most():
    names = [a + b + c for a in "lr" for b in "lr" for c in "lr"]
    root, asked = run({name: 1.0 if name == "rlr" else -1.0 for name in names}, Rules(3, 32))
    assert len(asked) == len(set(asked)), "a node is gone on from once"
    at, way = root, []
    while at.children:
        at = max(at.children, key=lambda child: child.visits)
        way.append(at.text)
    assert way == ["r", "rl", "rlr"]
    assert at.q == max(node.q for node in root.all() if node.ends)


@given(
    st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    st.integers(1, 40),
    st.floats(0, 3),
)
def test_visits_of_children_never_exceed_their_parents_and_q_stays_within_what_can_be_reached(
    worth, iterations, explore
):
    names = [a + b + c for a in "lr" for b in "lr" for c in "lr"]
    values = dict(zip(names, worth, strict=True))
    root, _ = run(values, Rules(3, iterations, explore=explore))
    for node in root.all():
        assert node.visits >= sum(child.visits for child in node.children or ())
        below = [values[name] for name in names if name.startswith(node.text)]
        # What is not searched yet counts as worth what stands before it: 0.
        assert min([*below, 0.0]) - 1e-9 <= node.q <= max([*below, 0.0]) + 1e-9


def test_a_search_ends_where_nothing_follows():
    root = Node()
    going = search(root, Rules())
    assert next(going) is root
    with pytest.raises(StopIteration):
        going.send([])
    assert root.all() == [root]
