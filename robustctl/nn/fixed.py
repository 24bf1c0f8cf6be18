"""Numbers of a guarantee: traced like arrays, never trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32

from ..registry import registered


@registered()
class Fixed(eqx.Module):
    """A number or array of numbers that no optimizer moves and of which another value compiles nothing.

    A static field would be a new program for every value, and a floating-point array would be trained, or shrunk by
    weight decay. So the bits of the float64 are stored as integers, which hold it exactly in a model of any dtype.

    **Arguments:**

    - `number`: what can become a float64 array.
    """

    words: UInt32[Array, "*shape 2"]

    def __init__(self, number):
        words = np.asarray(number, np.float64)[..., None].view(np.uint32)
        # A model that is built inside of jit, as for its shapes alone, must still know its numbers.
        with jax.ensure_compile_time_eval():
            self.words = jax.device_put(words)

    @property
    def exact(self) -> np.ndarray:
        """The number in float64; outside of `jit` alone."""
        return np.ascontiguousarray(self.words).view(np.float64)[..., 0]

    def __float__(self) -> float:
        """Return a single number."""
        return float(self.exact)

    @eqx.filter_jit
    def value(self, dtype) -> Float[Array, "*shape"]:
        """Return the number in `dtype`, rounded toward zero: a rate or a gain then promises the number given, or more."""
        if jnp.dtype(dtype) == jnp.float64:
            return lax.bitcast_convert_type(self.words, jnp.float64)
        low, high = self.words[..., 0], self.words[..., 1]
        sign, mantissa = high & np.uint32(0x80000000), (high & 0xFFFFF) << 3 | low >> 29
        # From the exponent of float64, about 1023, to that of float32, about 127; what is too small becomes zero.
        exponent = jnp.clip(high >> 20 & 0x7FF, 1023 - 127, 1023 + 127) - (1023 - 127)
        bits = jnp.where(exponent > 0, sign | exponent << 23 | mantissa, 0)
        return lax.bitcast_convert_type(bits, jnp.float32).astype(dtype)
