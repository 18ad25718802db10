"""Sparse codes over a dictionary: ``data ≈ codes @ atoms``, all rows of ``data`` at once.

The codes come from orthogonal matching pursuit on the atoms' Gram matrix (Rubinstein et al., "Efficient
implementation of the K-SVD algorithm using Batch-OMP", 2008). The rows share one budget of nonzeros: those that gain
most go first. The dictionary is refitted by the method of optimal directions (Engan et al., ICASSP 1999).
"""

import numpy as np

SHARE = 4
"""At most one row in this many takes part in a round. At 2, errors are 1-2 % higher; at 1, 10 %."""
ROUNDS = 24
"""There are at least so many, however few the nonzeros. Codes with more nonzeros per row than this take several in a
round, or the time would grow with their number: at density 0.4, 12 rounds give the same error from singular vectors,
and 10 % more from columns."""
STEPS = 2
"""Steps of conjugate gradients after a choice; with 1, the error is up to 9 % higher."""
NOTHING = 1e-6
"""Below this share of the largest correlation there is only rounding left in float32."""
RIDGE = 1e-9
"""Added to the codes' Gram matrix as a share of its mean diagonal: two equal atoms are no error."""
PARALLEL = 0.8
"""Cosine from which one of two atoms is replaced. Planted dictionaries of 32 atoms come out with errors 5-25 % lower
than with 0.9; 0.7 lowers those further, but is 3 % worse than 0.8 on weights with one nonzero per row."""


def matching_pursuit(
    data: np.ndarray,
    atoms: np.ndarray,
    count: int,
    error: float | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Codes with few nonzeros.

    Parameters
    ----------
    data : ndarray, (n, c), float32
    atoms : ndarray, (k, c), float32
        Rows of length 1 or 0.
    count : int
        Nonzeros to choose. With ``error``, the number expected: it sets how many are chosen at a time.
    error : float, optional
        Choose until ``‖data − codes @ atoms‖ ≤ error · ‖data‖`` instead, if it takes all.
    start : ndarray, (n, k), float32, optional
        Codes for nearly the same atoms: the larger half of their nonzeros is kept.

    Returns
    -------
    ndarray, (n, k), float32
    """
    gram, size, target = atoms @ atoms.T, np.square(data).sum(1), data @ atoms.T
    goal = -1.0 if error is None else error**2 * size.sum()
    codes = np.zeros_like(target) if start is None else _larger_half(start)
    chosen = codes != 0
    codes, slope = _refit(codes, target - codes @ gram, chosen, gram, STEPS)
    best = np.where(chosen, 0, np.abs(slope)).max(1)
    missed = size - np.einsum("nk,nk->n", codes, target + slope)
    left = (count if error is None else chosen.size) - int(np.count_nonzero(chosen))
    many = min(max(1, round(count / len(data) / ROUNDS)), len(atoms))
    share = min(len(data) // SHARE, count // ROUNDS)
    least = NOTHING * np.abs(target).max()
    while left and best.max() > least and missed.sum() > goal:
        rows = np.argpartition(-best, share)[: share + 1]
        row, atom = _choose(slope[rows], chosen[rows], many, left)
        chosen[rows[row], atom] = True
        left -= len(row)
        codes[rows], slope[rows] = _refit(codes[rows], slope[rows], chosen[rows], gram, STEPS)
        best[rows] = np.where(chosen[rows], 0, np.abs(slope[rows])).max(1)
        missed[rows] = size[rows] - np.einsum("nk,nk->n", codes[rows], target[rows] + slope[rows])
    return codes


def _larger_half(codes: np.ndarray) -> np.ndarray:
    sizes = np.abs(codes[codes != 0])
    return np.where(np.abs(codes) > np.median(sizes), codes, 0) if sizes.size else codes


def _choose(slope: np.ndarray, chosen: np.ndarray, many: int, left: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and atoms of at most ``left`` new nonzeros: the ``many`` steepest of each row."""
    steep = np.where(chosen, 0, np.abs(slope))
    atom = steep.argmax(1)[:, None] if many == 1 else np.argpartition(-steep, many - 1, 1)[:, :many]
    row, atom = np.repeat(np.arange(len(steep)), many), atom.reshape(-1)
    gain = steep[row, atom]
    order = np.argsort(-gain, kind="stable")[:left]
    order = order[gain[order] > 0]
    return row[order], atom[order]


def _refit(
    codes: np.ndarray, slope: np.ndarray, chosen: np.ndarray, gram: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """``steps`` of conjugate gradients towards the least squares over the chosen atoms, and the slope there.

    ``slope`` is ``(data − codes @ atoms) @ atoms.T``, for the atoms that are not chosen too.
    """
    rest = np.where(chosen, slope, 0)
    way, length = rest, np.einsum("nk,nk->n", rest, rest)
    first = length.sum()
    for _ in range(steps):
        if length.sum() <= np.finfo(slope.dtype).eps ** 2 * first:
            break
        turned = way @ gram
        step = _ratio(length, np.einsum("nk,nk->n", way, turned))
        codes, slope = codes + step * way, slope - step * turned
        rest = np.where(chosen, slope, 0)
        before, length = length, np.einsum("nk,nk->n", rest, rest)
        way = rest + _ratio(length, before) * way
    return codes, slope


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)[:, None]


def refit_codes(data: np.ndarray, atoms: np.ndarray, codes: np.ndarray, steps: int = 32) -> np.ndarray:
    """The values of the nonzeros of ``codes`` (n, k) with the least squared error, computed in float64."""
    wide = atoms.astype(np.float64)
    slope = (data - codes.astype(np.float64) @ wide) @ wide.T
    return _refit(codes.astype(np.float64), slope, codes != 0, wide @ wide.T, steps)[0]


def refit_atoms(data: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The atoms with the least squared error for ``codes`` (n, k), at length 1, and the codes scaled to match.

    Returns
    -------
    atoms : ndarray, (k, c), float32
        An atom that no code uses is 0.
    codes : ndarray, (n, k), float32
    """
    gram = (codes.T @ codes).astype(np.float64)
    ridge = RIDGE * gram.trace() / len(gram)
    gram[np.diag_indices(len(gram))] += np.where(np.diag(gram) > 0, ridge, 1)
    atoms = np.linalg.solve(gram, (codes.T @ data).astype(np.float64)).astype(np.float32)
    return unit(atoms), codes * np.linalg.norm(atoms, axis=1)


def replace_twins(data: np.ndarray, atoms: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atoms that are of little use become what the worst represented rows of ``data`` lack, one row for each.

    Those are the unused ones, and of two that are nearly parallel the one with the smaller codes. The dictionary
    would not find the missing directions by itself, since each refit is a small step.

    Returns
    -------
    atoms : ndarray, (k, c), float32
    codes : ndarray, (n, k), float32
        0 for the new atoms.
    """
    energy, alike = np.square(codes).sum(0), np.abs(atoms @ atoms.T)
    np.fill_diagonal(alike, 0)
    spare = np.zeros(len(atoms), bool)
    for atom in np.argsort(energy, kind="stable"):
        spare[atom] = energy[atom] == 0 or alike[atom][~spare].max(initial=0) > PARALLEL
    missing = data - codes @ atoms
    worst = np.argsort(-np.square(missing).sum(1), kind="stable")[: np.count_nonzero(spare)]
    new = atoms.copy()
    new[spare] = unit(missing[worst])
    return new, np.where(spare, 0, codes)


def unit(rows: np.ndarray) -> np.ndarray:
    """``rows`` at length 1; those of length 0 stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
