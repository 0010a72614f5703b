"""Cycles: preferences that no ranking explains, A over B over C over A.

A pair lies on a cycle if its rejected response can be reached back from its chosen one by other pairs, which is so where
both are in one strongly connected part of the graph of who beat whom. Noise makes cycles, and so does a judge with
more than one measure; a reward model can fit neither.
"""

import numpy as np

__all__ = ["on_cycle"]


def on_cycle(winner: np.ndarray, loser: np.ndarray) -> np.ndarray:
    """Return which pairs lie on a cycle: bool [pairs]. Shapes: both int64 [pairs], responses numbered from 0."""
    from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    if not len(winner):
        return np.zeros(0, dtype=bool)
    size = int(max(winner.max(), loser.max())) + 1
    graph = coo_matrix((np.ones(len(winner), np.int32), (winner, loser)), shape=(size, size))
    _, part = connected_components(graph, directed=True, connection="strong")
    found: np.ndarray = part[winner] == part[loser]
    return found
