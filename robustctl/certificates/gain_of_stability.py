"""A gain that the metric and the multipliers of stability prove: finite for every input and output of a form, and not the least.

::

    Z = X0'P X0 - S'P S - [V; W]' Pi [V; W],     Z > 0 on [x; w]     by the proof of stability
    t Z - Y'Y + g U'U = [a b; b' c + g I] > 0    for a > 0  and  g > largest eigenvalue of b' a^-1 b - c

which holds for every t that is large enough, and the best one is searched.
"""

import numpy as np

from ..lft import LFT, Claim
from .dissipation import blocks_form
from .inequalities import rows_of
from .proof import Proof, gain_margin
from .prove import Found

_SCALES = np.exp2(np.arange(-12.0, 21.0))
"""By how much t exceeds the smallest one, in parts of it."""


def gain_of_stability(form: LFT, stability: Proof) -> Found:
    """Return a proof of a gain from u to y, with the metric and multipliers of a proof of stability, all scaled alike.

    `form`: opened, with the states and blocks of the form whose stability is proven.
    """
    found = sorted(_bounds(form, stability))
    for g, t in found[:4]:
        P, multipliers = t * stability.P, tuple(t * T for T in stability.multipliers)
        for raised in (1e-6, 1e-4, 1e-2, 1.0):
            proof = Proof(float(np.sqrt(g) * (1 + raised)), P, multipliers)
            if gain_margin(form, proof) < 0:
                return Found(proof)
    return Found(None, "no gain survives rounding with the multipliers of stability")


def _bounds(form: LFT, stability: Proof) -> list[tuple[float, float]]:
    """Return pairs (g, t) that are proven but for rounding."""
    rows, P = rows_of(form), stability.P
    Pi = blocks_form(form, Claim(1.0, P, None, stability.multipliers))
    seen = np.vstack([rows.V, rows.W])
    Z, YY = rows.X0.T @ P @ rows.X0 - rows.S.T @ P @ rows.S - seen.T @ Pi @ seen, rows.Y.T @ rows.Y
    n, found = form.nx + form.B1.shape[1], []
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(Z[:n, :n]))
    except np.linalg.LinAlgError:
        return []
    least = float(np.linalg.eigvalsh(inverse @ YY[:n, :n] @ inverse.T)[-1])
    for scale in _SCALES:
        # Without outputs that the states move, any t will do.
        t = (max(least, 0.0) or 1.0) * (1 + scale)
        K = t * Z - YY
        b = inverse @ K[:n, n:]
        a = inverse @ K[:n, :n] @ inverse.T
        g = np.linalg.eigvalsh(b.T @ np.linalg.solve(a, b) - K[n:, n:])[-1]
        if g > 0:
            found.append((float(g), float(t)))
    return found
