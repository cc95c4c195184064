"""An attacker of its own: which small counts follow from the published ones.

Here: integer programming over the people behind the tables, one unknown per combination of all kinds, so that every
published count is a sum of unknowns. Not here: anything of `warehouse.disclosure`, which this is held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

Cell = tuple[str, str]
FAR = 500


@dataclass(frozen=True)
class View:
    """What an attacker sees of one release: published counts (None is withheld), and what it counts itself."""

    shown: dict[Cell, int | None]
    own: dict[Cell, int]
    small: frozenset[Cell]
    """Withheld cells that the attacker takes for small, rightly."""


class Puzzle:
    """One release as linear constraints on the people who are unknown to the attacker."""

    def __init__(self, view: View, maximum: int, base: int) -> None:
        kinds = sorted({kind for kind, _ in view.shown if kind != "all" and " and " not in kind})
        strata = {kind: sorted(s for k, s in view.shown if k == kind) for kind in kinds}
        people = list(product(*(strata[kind] for kind in kinds)))
        self.cells = sorted(view.shown)
        self.matrix = np.zeros((len(self.cells), len(people)))
        low, high = [], []
        for row, (kind, stratum) in enumerate(self.cells):
            wanted = dict(zip(kind.split(" and "), stratum.split(" and "), strict=True)) if kind != "all" else {}
            for column, person in enumerate(people):
                traits = dict(zip(kinds, person, strict=True))
                self.matrix[row, column] = all(traits[k] == s for k, s in wanted.items())
            value, own = view.shown[kind, stratum], view.own.get((kind, stratum), 0)
            if value is not None:
                fits = [n for n in range(maximum + 1, value + base) if int(n / base + 0.5) * base == value]
                low.append(max(0, fits[0] - own))
                high.append(fits[-1] - own)
            else:
                low.append(0)
                high.append(maximum if (kind, stratum) in view.small else FAR)
        self.low, self.high = np.array(low), np.array(high)

    def row(self, cell: Cell) -> np.ndarray:
        return np.asarray(self.matrix[self.cells.index(cell)])


def _extremes(costs: np.ndarray, matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[int, int]:
    ends = []
    for sign in (1, -1):
        found = milp(
            sign * costs,
            integrality=np.ones(len(costs)),
            bounds=Bounds(0, FAR),
            constraints=LinearConstraint(matrix, low, high),
        )
        assert found.success, "the published tables contradict each other"
        ends.append(round(sign * found.fun))
    return ends[0], ends[1]


def count_of(puzzle: Puzzle, cell: Cell) -> tuple[int, int]:
    """Least and largest number of people in a cell."""
    return _extremes(puzzle.row(cell), puzzle.matrix, puzzle.low, puzzle.high)


def change_of(before: Puzzle, now: Puzzle, cell: Cell) -> tuple[int, int]:
    """Least and largest change of a cell between two releases, from both at once."""
    costs = np.concatenate([-before.row(cell), now.row(cell)])
    matrix = np.block(
        [
            [before.matrix, np.zeros((len(before.cells), now.matrix.shape[1]))],
            [np.zeros((len(now.cells), before.matrix.shape[1])), now.matrix],
        ]
    )
    return _extremes(costs, matrix, np.concatenate([before.low, now.low]), np.concatenate([before.high, now.high]))
