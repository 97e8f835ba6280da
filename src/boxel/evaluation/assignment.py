"""The best one-to-one pairing of a sparse bipartite graph."""

import numpy as np


def assign(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Positions of the chosen pairs: as many as possible and, among these choices, the highest sum of values.

    Connected components are solved one by one, so that the cost follows the largest component.

    Args:
        rows: `(p,)` integers, the row of each pair.
        columns: `(p,)` integers, the column of each pair; no pair occurs twice.
        values: `(p,)` of each pair, finite.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return np.zeros(0, int)
    i, j = (np.unique(ends, return_inverse=True)[1] for ends in (rows, columns))
    j += i.max() + 1
    graph = coo_array((np.ones(len(rows)), (i, j)), shape=(j.max() + 1,) * 2)
    component = connected_components(graph, directed=False)[1][i]
    order = np.argsort(component, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    return np.sort(np.concatenate([block[_solve(rows[block], columns[block], values[block])] for block in blocks]))


def _solve(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`(p,)` which pairs of one component are chosen."""
    from scipy.optimize import linear_sum_assignment

    if len(values) == 1:
        return np.ones(1, bool)
    i, j = (np.unique(ends, return_inverse=True)[1] for ends in (rows, columns))
    table = np.zeros((i.max() + 1, j.max() + 1))
    # A pair more gains more than any exchange of pairs; what is no pair gains nothing.
    gain = values - values.min() + 1
    table[i, j] = gain + gain.max() * min(table.shape)
    chosen = np.zeros(table.shape, bool)
    chosen[linear_sum_assignment(table, maximize=True)] = True
    return chosen[i, j]
