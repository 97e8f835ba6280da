"""The best one-to-one pairing of a sparse bipartite graph."""

import numpy as np


def assign(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Positions of the chosen pairs: as many as possible, among these the highest sum of values.

    Groups of pairs that share no row or column are solved one by one, so that the cost follows the largest group.

    Args:
        rows: `(p,)` non-negative integers.
        columns: `(p,)` likewise; no pair twice.
        values: `(p,)` of each pair, finite.
    """
    if not len(rows):
        return np.zeros(0, int)
    component = _components(rows, columns)
    order = np.argsort(component, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    return np.sort(np.concatenate([_solve(block, rows[block], columns[block], values[block]) for block in blocks]))


def _components(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`(p,)` the number of each pair's component: the lowest pair, spread through rows and columns until it rests."""
    ends = [np.unique(ends, return_inverse=True)[1] for ends in (rows, columns)]
    component = np.arange(len(rows))
    while True:
        before = component
        for end in ends:
            lowest = np.full(end.max() + 1, len(rows))
            np.minimum.at(lowest, end, component)
            component = lowest[end]
        component = component[component]
        if np.array_equal(component, before):
            return component


def _solve(block: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    if len(block) == 1:
        return block
    (row_ids, i), (column_ids, j) = (np.unique(ends, return_inverse=True) for ends in (rows, columns))
    # One pair more outweighs any values, and no pair costs nothing.
    gain = values - values.min() + 1
    gain = gain + gain.max() * min(len(row_ids), len(column_ids))
    cost = np.zeros((len(row_ids), len(column_ids)))
    cost[i, j] = -gain
    position = np.full(cost.shape, -1)
    position[i, j] = block
    transposed = cost.shape[0] > cost.shape[1]
    pairs = hungarian(cost.T if transposed else cost)
    chosen = (position.T if transposed else position)[np.arange(len(pairs)), pairs]
    return chosen[chosen >= 0]


def hungarian(cost: np.ndarray) -> np.ndarray:
    """`(n,)` the column of each row of `cost (n, m)`, n <= m, with the least total cost.

    Shortest augmenting paths with potentials (Kuhn 1955; Jonker and Volgenant 1987), O(n^2 m).
    """
    n, m = cost.shape
    row_price, column_price = np.zeros(n), np.zeros(m)
    owner = np.full(m, -1)
    for start in range(n):
        row, column = start, -1
        reach, previous = np.full(m, np.inf), np.full(m, -1)
        done = np.zeros(m, bool)
        while row >= 0:
            reduced = cost[row] - row_price[row] - column_price
            closer = ~done & (reduced < reach)
            reach[closer], previous[closer] = reduced[closer], column
            column = int(np.where(done, np.inf, reach).argmin())
            step = reach[column]
            visited = np.flatnonzero(done)
            row_price[owner[visited]] += step
            column_price[visited] -= step
            row_price[start] += step
            reach[~done] -= step
            done[column] = True
            row = owner[column]
        while column >= 0:
            owner[column] = owner[previous[column]] if previous[column] >= 0 else start
            column = previous[column]
    pairs = np.full(n, -1)
    pairs[owner[owner >= 0]] = np.flatnonzero(owner >= 0)
    return pairs
