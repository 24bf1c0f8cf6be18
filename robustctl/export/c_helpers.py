"""Functions of C that a step may call, written into its file where it does; `@` is replaced by the name, `real` by its type of floats."""

import math
import re

import numpy as np

from .c_text import number

_REAL = {
    "max": "static real @max(real a, real b)\n{\n    return (a > b || a != a) ? a : b;\n}",
    "min": "static real @min(real a, real b)\n{\n    return (a < b || a != a) ? a : b;\n}",
    "above": "static real @above(real a, real least)\n{\n    return a < least ? least : a;\n}",
    "below": "static real @below(real a, real most)\n{\n    return a > most ? most : a;\n}",
    "sign": "static real @sign(real a)\n{\n    return a > (real)0 ? (real)1 : a < (real)0 ? (real)-1 : a;\n}",
    "is_finite": "static bool @is_finite(real a)\n{\n    return a - a == (real)0;\n}",
}
_INTEGER = {
    "max": "static INT @max#(INT a, INT b)\n{\n    return a > b ? a : b;\n}",
    "min": "static INT @min#(INT a, INT b)\n{\n    return a < b ? a : b;\n}",
    "add": "static INT @add#(INT a, INT b)\n{\n    return (INT)((UINT)a + (UINT)b);\n}",
    "sub": "static INT @sub#(INT a, INT b)\n{\n    return (INT)((UINT)a - (UINT)b);\n}",
    "mul": "static INT @mul#(INT a, INT b)\n{\n    return (INT)((UINT)a * (UINT)b);\n}",
    "neg": "static INT @neg#(INT a)\n{\n    return (INT)((UINT)0 - (UINT)a);\n}",
    "abs": "static INT @abs#(INT a)\n{\n    return a < 0 ? (INT)((UINT)0 - (UINT)a) : a;\n}",
    "sign": "static INT @sign#(INT a)\n{\n    return a > 0 ? 1 : a < 0 ? -1 : 0;\n}",
    "div": """\
static INT @div#(INT a, INT b)
{
    if (b == 0) {
        return -1;
    }
    return b == -1 ? (INT)((UINT)0 - (UINT)a) : a / b;
}""",
    "rem": """\
static INT @rem#(INT a, INT b)
{
    if (b == 0) {
        return a;
    }
    return b == -1 ? 0 : a % b;
}""",
    "from": """\
static INT @from#(real a)
{
    if (a != a) {
        return 0;
    }
    if (a >= LIMIT) {
        return MOST;
    }
    return a < -LIMIT ? LEAST : (INT)a;
}""",
}
"""Wrapping around as JAX's integers do, without what C leaves undefined."""

LU = """\
/* L U = a[permutation], rows exchanged for the largest pivot; L has a diagonal of ones. */
static void @lu(real *a, int32_t *pivots, int32_t *permutation, int n)
{
    for (int i = 0; i < n; i++) {
        permutation[i] = (int32_t)i;
    }
    for (int k = 0; k < n; k++) {
        int p = k;
        for (int i = k + 1; i < n; i++) {
            if (fabs(a[i * n + k]) > fabs(a[p * n + k])) {
                p = i;
            }
        }
        pivots[k] = (int32_t)p;
        if (p != k) {
            const int32_t moved = permutation[k];
            permutation[k] = permutation[p];
            permutation[p] = moved;
            for (int j = 0; j < n; j++) {
                const real t = a[k * n + j];
                a[k * n + j] = a[p * n + j];
                a[p * n + j] = t;
            }
        }
        for (int i = k + 1; i < n; i++) {
            if (a[k * n + k] != 0) {
                a[i * n + k] /= a[k * n + k];
            }
            for (int j = k + 1; j < n; j++) {
                a[i * n + j] -= a[i * n + k] * a[k * n + j];
            }
        }
    }
}"""

CHOLESKY = """\
/* a = L L', from the lower triangle, in place; NaN where a is not positive definite. */
static void @cholesky(real *a, int n)
{
    bool definite = true;
    for (int j = 0; j < n; j++) {
        real d = a[j * n + j];
        for (int k = 0; k < j; k++) {
            d -= a[j * n + k] * a[j * n + k];
        }
        definite = definite && d > (real)0;
        d = sqrt(definite ? d : (real)1);
        a[j * n + j] = d;
        for (int i = j + 1; i < n; i++) {
            real s = a[i * n + j];
            for (int k = 0; k < j; k++) {
                s -= a[i * n + k] * a[j * n + k];
            }
            a[i * n + j] = s / d;
            a[j * n + i] = 0;
        }
    }
    for (int k = 0; k < n * n && !definite; k++) {
        a[k] = NANS;
    }
}"""

SOLVE = """\
/* b = a^-1 b for a triangular a and m right sides. */
static void @solve(const real *a, real *b, int n, int m, bool lower, bool unit)
{
    for (int r = 0; r < n; r++) {
        const int i = lower ? r : n - 1 - r;
        for (int c = 0; c < m; c++) {
            real s = b[i * m + c];
            for (int q = 0; q < r; q++) {
                const int k = lower ? q : n - 1 - q;
                s -= a[i * n + k] * b[k * m + c];
            }
            b[i * m + c] = unit ? s : s / a[i * n + i];
        }
    }
}"""

POWER = """\
/* 2 to the power k, of k + MAGIC, whose last bits are those of the integer k. */
static inline real @power2(real shifted)
{
    union { real number; BITS bits; } found;
    found.number = shifted;
    found.bits = (found.bits + BIAS) << PLACE;
    return found.number;
}"""

EXP = """\
/* exp(a) with an error below 2 units in the last place; without branches, so that compilers make vector code of it. */
static inline real @exp(real a)
{
    const real b = a > OVER ? OVER : a < UNDER ? UNDER : a;
    const real k = (b * LOG2E + MAGIC) - MAGIC;
    /* b = k log 2 + r, the first part of log 2 with so few bits that its product with k is exact. */
    const real r = (b - k * LN2_HIGH) - k * LN2_LOW;
    /* 2^k in two factors, since it may be beyond the largest number. */
    const real half = k * (real)0.5 + MAGIC, rest = (k - (half - MAGIC)) + MAGIC;
    real s = SERIES
    s = s * r + 1;
    s = s * r + 1;
    return s * @power2(half) * @power2(rest);
}"""

TANH = """\
/* tanh(a) with an error below 3 units in the last place; without branches. */
static inline real @tanh(real a)
{
    const real size = a < 0 ? -2 * a : 2 * a;
    const real b = size > 44 ? (real)44 : size;
    const real shifted = b * LOG2E + MAGIC, k = shifted - MAGIC, scale = @power2(shifted);
    const real r = (b - k * LN2_HIGH) - k * LN2_LOW;
    real s = SERIES
    /* e = exp(b) - 1, without the cancellation. */
    const real e = scale * (s * r * r + r) + (scale - 1);
    return (a < 0 ? -e : e) / (e + 2);
}"""

RESCALE = """\
/* a 2^-shift to the nearest, halves away from zero, its size at most `limit`. */
static int32_t @rescale(int64_t a, int shift, int32_t limit)
{
    uint64_t size = a < 0 ? (uint64_t)0 - (uint64_t)a : (uint64_t)a;
    if (shift > 0) {
        size = (size + ((uint64_t)1 << (shift - 1))) >> shift;
        size = size > (uint64_t)limit ? (uint64_t)limit : size;
    }
    else {
        size = size > (uint64_t)limit >> -shift ? (uint64_t)limit : size << -shift;
    }
    return a < 0 ? -(int32_t)size : (int32_t)size;
}"""

_WHOLE = {
    "rescale": RESCALE,
    "lu": LU,
    "cholesky": CHOLESKY,
    "solve": SOLVE,
    "power2": POWER,
    "exp": EXP,
    "tanh": TANH,
}
OWN = ("exp", "tanh")
"""Functions of `math.h` that the file may have itself."""
NEEDS = {"tanh": ("power2",), "exp": ("power2",)}
"""Helpers that call others."""


def _series(terms: int, double: bool) -> str:
    """Return the sum of `r^k / (k + 2)!` by Horner's rule, its last term first."""
    real = np.float64 if double else np.float32
    exact = [1 / math.factorial(k) for k in range(terms + 1, 1, -1)]
    first, *others = (number(float(real(a)), "float", double) for a in exact)
    return "\n".join([f"{first};", *(f"    s = s * r + {each};" for each in others)])


_DOUBLE = {
    "real": "double", "NANS": "(double)NAN", "OVER": "0x1.63p+9", "UNDER": "-0x1.77p+9", "LOG2E": "0x1.71547652b82fep+0",
    "LN2_HIGH": "0x1.62e42feep-1", "LN2_LOW": "0x1.a39ef35793c76p-33", "MAGIC": "0x1.8p+52", "BITS": "uint64_t", "BIAS": "1023U",
    "PLACE": "52", "SERIES": _series(12, True),
}  # fmt: skip
_SINGLE = {
    "real": "float", "NANS": "NAN", "OVER": "0x1.64p+6f", "UNDER": "-0x1.bp+6f", "LOG2E": "0x1.715476p+0f", "LN2_HIGH": "0x1.62ep-1f",
    "LN2_LOW": "0x1.0bfbe8p-15f", "MAGIC": "0x1.8p+23f", "BITS": "uint32_t", "BIAS": "127U", "PLACE": "23",
    "SERIES": _series(6, False), "fabs": "fabsf", "sqrt": "sqrtf",
}  # fmt: skip


def helper(name: str, dtype: str) -> tuple[str, str]:
    """Return what a helper is called after the program's name, and its text before `finished`.

    **Arguments:**

    - `name`: key of the tables here.
    - `dtype`: of its arguments, as in a program.
    """
    if name in _WHOLE:
        return name, _WHOLE[name]
    if dtype == "float":
        return name, _REAL[name]
    bits = dtype[3:]
    words = {
        "INT": f"int{bits}_t", "UINT": f"uint{bits}_t", "MOST": f"INT{bits}_MAX", "LEAST": f"INT{bits}_MIN",
        "LIMIT": f"(real){float(2 ** (int(bits) - 1)).hex()}",
    }  # fmt: skip
    return f"{name}{bits}", replaced(_INTEGER[name].replace("#", bits), words)


def finished(text: str, prefix: str, double: bool) -> str:
    """Return a helper's text with its names and types."""
    return replaced(text, _DOUBLE if double else _SINGLE).replace("@", f"{prefix}_")


def replaced(text: str, words: dict[str, str]) -> str:
    """Return a text with whole words replaced."""
    return re.sub(r"\b(" + "|".join(words) + r")\b", lambda found: words[found[1]], text)
