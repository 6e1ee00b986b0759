"""Quantile regression, and a band around it that keeps its promise.

The regression minimises the pinball loss by majorisation (Hunter and Lange,
Quantile regression via an MM algorithm, 2000): every step is one weighted least
squares, and all folds and quantiles are solved together as one small batch.
statsmodels and scikit-learn do the same, but weigh 100 MB and more with scipy.

The band is conformal by cross-validation (CV+: Barber, Candès, Ramdas and
Tibshirani, 2021) of conformalised quantiles (Romano, Patterson and Candès, 2019).
CV+ rather than a split, because a history is short: every run both fits and
calibrates. Its rank is the one that holds the promise for this very history with
99 % confidence (Vovk, 2012), not only on average over all histories.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COVERAGE = 0.90
CONFIDENCE = 0.99
FOLDS = 10
QUANTILES = (0.05, 0.5, 0.95)
STEPS = 40
_NEAR = 1e-4
"""Residuals below this share of the values count as none, which smooths the loss."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Quantiles as linear functions of features, with what calibrates them.

    Attributes:
        scale: Divides features, shape (p,).
        whole: Coefficients by quantile of all runs, shape (3, p).
        folds: The same without one fold each, shape (k, 3, p).
        fold: Fold of every run, shape (n,).
        scores: How far each run lay outside the quantiles of the others, as a
            share of the median; negative inside; shape (n,).
    """

    scale: Floats
    whole: Floats
    folds: Floats
    fold: NDArray[np.int_]
    scores: Floats

    def at(self, features: Floats) -> tuple[float, float, float]:
        """Return (low, median, high) at `features`, shape (p,)."""
        import numpy as np

        row = features / self.scale
        apart = (self.folds @ row)[self.fold]
        middle = np.abs(apart[:, 1])
        place = rank(len(self.scores))
        spread = self.scores * widening(len(self.scores))
        highs = np.sort(apart[:, 2] + spread * middle)
        lows = np.sort(apart[:, 0] - spread * middle)[::-1]
        median = float(self.whole[1] @ row)
        return min(float(lows[place - 1]), median), median, max(float(highs[place - 1]), median)


def fit(features: Floats, values: Floats) -> Fit:
    """Fit quantiles to `values`, shape (n,), as linear in `features`, shape (n, p).

    Values are positive; errors count as shares of them, as their noise grows
    with them. Runs are dealt to the folds in turn.
    """
    import numpy as np

    count = len(values)
    scale = np.maximum(np.sqrt((features**2).mean(axis=0)), 1e-300)
    rows = features / scale
    number = min(FOLDS, count)
    fold = np.arange(count) % number
    # One system for each fold and quantile, and the last ones for all runs.
    use = np.ones((number + 1, count))
    use[fold, np.arange(count)] = 0
    found = _solve(rows, values, use)
    apart = np.einsum("np,nqp->nq", rows, found[fold])
    middle = np.maximum(np.abs(apart[:, 1]), 1e-9 * np.abs(values).max())
    scores = np.maximum(apart[:, 0] - values, values - apart[:, 2]) / middle
    return Fit(scale, found[-1], found[:-1], fold, scores)


def _solve(rows: Floats, values: Floats, use: Floats) -> Floats:
    """Return coefficients, shape (systems, 3, p), for runs chosen by `use`, (systems, n)."""
    import numpy as np

    systems, count = use.shape
    width = rows.shape[1]
    size = float(np.abs(values).mean()) or 1.0
    target = values / size
    products = (rows[:, :, None] * rows[:, None, :]).reshape(count, width * width)
    steady = 1e-8 * np.eye(width)
    start = np.linalg.solve(
        (use @ products).reshape(systems, width, width) + steady,
        (use @ (rows * target[:, None]))[..., None],
    )[..., 0]
    guess = start @ rows.T
    # Errors are judged as shares of the expected value.
    weight = use / np.maximum(guess, 0.2 * np.median(target))
    weight = np.repeat(weight, len(QUANTILES), axis=0)
    lean = np.tile(2 * np.array(QUANTILES) - 1, systems)
    pull = (weight @ rows) * lean[:, None]
    found = np.repeat(start, len(QUANTILES), axis=0)
    for _ in range(STEPS):
        pressure = weight / (_NEAR + np.abs(target - found @ rows.T))
        left = (pressure @ products).reshape(-1, width, width) + steady
        right = pressure @ (rows * target[:, None]) + pull
        found = np.linalg.solve(left, right[..., None])[..., 0]
    return found.reshape(systems, len(QUANTILES), width) * size


@lru_cache(maxsize=256)
def rank(count: int) -> int:
    """Return which of `count` sorted bounds keeps COVERAGE with CONFIDENCE."""
    below = 0.0
    for place in range(1, count + 1):
        below += _chance(count, place - 1)
        if below >= CONFIDENCE:
            return place
    return count


def widening(count: int) -> float:
    """Return by how much few runs must widen the largest score: with 44 no more."""
    enough = 44
    return 1.0 if count >= enough else 1.0 + 1.5 * (enough - count) / enough


def _chance(count: int, hits: int) -> float:
    if count > 900:
        # Beyond what floats hold of the coefficient; the logarithm does.
        from math import exp, lgamma, log

        ways = lgamma(count + 1) - lgamma(hits + 1) - lgamma(count - hits + 1)
        return exp(ways + hits * log(COVERAGE) + (count - hits) * log(1 - COVERAGE))
    return float(comb(count, hits) * COVERAGE**hits * (1 - COVERAGE) ** (count - hits))


def independent(features: Floats) -> list[int]:
    """Return the columns that say something the earlier ones do not."""
    import numpy as np

    kept: list[int] = []
    for column in range(features.shape[1]):
        part: Any = features[:, [*kept, column]]
        part = part / np.maximum(np.sqrt((part**2).mean(axis=0)), 1e-300)
        if np.linalg.svd(part, compute_uv=False)[-1] > 0.05 * np.sqrt(len(part)):
            kept.append(column)
    return kept
