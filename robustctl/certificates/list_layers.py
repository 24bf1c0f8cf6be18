"""What a list of layers may hold besides matrices and activations."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)
class Residual:
    """A layer of a list: `s -> skip(s) + network(s)`; without `skip` the signal itself is added.

    **Arguments:**

    - `network`: a list of layers, or any other network that `lipschitz` takes.
    - `skip`: a matrix or a network, for a skip connection that changes the size; default the identity.

    **Example:** ::

        W1, W2, W3, W4 = np.random.default_rng(0).normal(size=(4, 4, 4)) / 4
        block = rc.certificates.Residual([W2, "relu", W3])
        print(rc.certificates.lipschitz([W1, block, "tanh", W4]))
    """

    network: Any
    skip: Any = None
