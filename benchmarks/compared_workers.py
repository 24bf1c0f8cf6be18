"""Identification of a record by another package, in that package's own Python; `benchmarks.identify_compared` starts it.

    PYTHON benchmarks/compared_workers.py jax_sysid DATA.npz SECONDS SEED OUT.npz

`DATA.npz` holds `u` and `y` of the training part and `u_test`, `y_head` of the test part, scaled to mean zero and deviation one on the
training part; `y_head` are the first outputs, from which an initial state may be estimated. `OUT.npz` gets the simulated outputs `y_hat`,
the CPU seconds of the whole process and a description.

- jax_sysid: the residual network of its documentation with its settings (1,000 steps of Adam, at most 1,000 of L-BFGS), of several
  numbers of states and seeds as long as the time allows; the one that is best on the last quarter of the training part is returned, as
  its documentation selects by `find_best_model`.
- tsfast: `RNNLearner` with its defaults and `fit_flat_cos`, as in its quick start, with the windows of its cascaded tanks, for as many
  epochs as the time allows.
"""

import contextlib
import importlib
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FIT = 0.75
"""Share of the training part that is fitted; the rest selects."""

STATES = (4, 8, 2, 12)
"""Numbers of states, one after the other."""


def jax_sysid(data: dict[str, np.ndarray], seconds: float, seed: int) -> tuple[np.ndarray, str]:
    """Return simulated outputs of the test part, and what was done."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp, models = jax.numpy, importlib.import_module("jax_sysid.models")
    u, y = data["u"], data["y"]
    cut, nu, ny = int(FIT * len(u)), u.shape[1], y.shape[1]

    def sigmoid(x):
        return 1 / (1 + jnp.exp(-x))

    def state(x, u, params):
        A, B, _, W1, W2, W3, b1, b2, *_ = params
        return A @ x + B @ u + W3 @ sigmoid(W1 @ x + W2 @ u + b1) + b2

    def output(x, u, params):
        _, _, C, *_, W4, W5, b3, b4 = params
        return C @ x + W5 @ sigmoid(W4 @ x + b3) + b4

    def first(nx: int, rng: np.random.Generator) -> list[np.ndarray]:
        n = rng.standard_normal
        weights = [0.1 * n((5, nx)), 0.5 * n((5, nu)), 0.5 * n((nx, 5)), np.zeros(5), np.zeros(nx)]
        outputs = [0.5 * n((5, nx)), 0.5 * n((ny, 5)), np.zeros(5), np.zeros(ny)]
        return [0.5 * np.eye(nx), 0.1 * n((nx, nu)), 0.1 * n((ny, nx)), *weights, *outputs]

    found: list[tuple[float, Any]] = []
    took, k = 0.0, 0
    while not found or time.process_time() + took < 0.95 * seconds:
        begin, nx = time.process_time(), STATES[k % len(STATES)]
        model = models.Model(nx, ny, nu, state_fcn=state, output_fcn=output)
        model.init(params=first(nx, np.random.default_rng([seed, k])))
        model.loss(rho_x0=1e-4, rho_th=1e-4)
        model.optimization(adam_epochs=1000, lbfgs_epochs=1000, iprint=-1)
        model.fit(y[:cut], u[:cut])
        y_hat = np.asarray(model.predict(model.x0, u)[0])
        error = float(np.mean((y_hat - y)[cut:] ** 2))
        found.append((error if np.isfinite(error) else np.inf, model))
        took, k = time.process_time() - begin, k + 1
    best = min(found, key=lambda pair: pair[0])[1]
    head = len(data["y_head"])
    x0 = best.learn_x0(data["u_test"][:head], data["y_head"], LBFGS_refinement=True, verbosity=False)
    y_hat = np.asarray(best.predict(np.asarray(x0), data["u_test"])[0])
    return y_hat, f"best of {len(found)} fits, {best.nx} states"


def tsfast(data: dict[str, np.ndarray], seconds: float, seed: int) -> tuple[np.ndarray, str]:
    """Return simulated outputs of the test part, and what was done."""
    torch, h5py = importlib.import_module("torch"), importlib.import_module("h5py")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pipeline, learners = (
        importlib.import_module(f"tsfast.{name}") for name in ("tsdata.pipeline", "training")
    )
    u, y = data["u"], data["y"]
    cut = int(FIT * len(u))
    names = {
        letter: [f"{letter}{k}" for k in range(values.shape[1])] for letter, values in (("u", u), ("y", y))
    }
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for part, rows in (("train", slice(0, cut)), ("valid", slice(cut, None))):
            files[part] = [str(Path(folder) / f"{part}.hdf5")]
            with h5py.File(files[part][0], "w") as file:
                for letter, values in (("u", u), ("y", y)):
                    for k, name in enumerate(names[letter]):
                        file[name] = values[rows, k].astype(np.float32)
        dls = pipeline.create_dls(**names, dataset=files, win_sz=150, bs=16, n_batches_train=100, cache=True)
        begin = time.process_time()
        learners.RNNLearner(dls, show_bar=False).fit_flat_cos(1)
        took = time.process_time() - begin
        epochs = max(int((0.95 * seconds - time.process_time()) / took), 1)
        learner = learners.RNNLearner(dls, show_bar=False)
        learner.fit_flat_cos(epochs)
    learner.model.eval()
    with torch.no_grad():
        out = learner.model(torch.as_tensor(data["u_test"], dtype=torch.float32)[None])
    return np.asarray(out[0] if isinstance(out, tuple) else out)[
        0
    ], f"GRU of 100 units, {epochs} epochs of 100 batches"


def main() -> None:
    package, file, seconds, seed, out = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()):
        y_hat, said = {"jax_sysid": jax_sysid, "tsfast": tsfast}[package](
            dict(np.load(file)), float(seconds), int(seed)
        )
    version = importlib.import_module("importlib.metadata").version(package.replace("_", "-"))
    np.savez(out, y_hat=y_hat, cpu=time.process_time(), said=f"{package} {version}: {said}")


if __name__ == "__main__":
    main()
