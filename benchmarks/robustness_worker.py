"""Train a network of the neural-ssm package (PyTorch), for `benchmarks.robustness`, in the environment in which that is installed.

    PYTHON benchmarks/robustness_worker.py DATA GAMMA SECONDS SEED OUT

It knows nothing of robustctl: arrays in, arrays out.
"""

import math
import sys
import time

import numpy as np
import torch
from neural_ssm import DeepSSM

BATCH, LEARNING_RATE = 32, 5e-3


def ascended(simulate, us, ys, washout: int, share: float, steps: int, seed: int):
    """Return the perturbation (B, T, 1) of a share of each input's norm that raises the error after the washout most."""
    size = share * us.norm(dim=1, keepdim=True)
    noise = torch.randn(us.shape, generator=torch.Generator().manual_seed(seed))
    d = size * noise / noise.norm(dim=1, keepdim=True)
    for _ in range(steps):
        d.requires_grad_(True)
        error = ((simulate(us + d) - ys)[:, washout:] ** 2).sum()
        (slope,) = torch.autograd.grad(error, d)
        d = (d + 0.3 * size * slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-12)).detach()
        d = size * d / d.norm(dim=1, keepdim=True)
    return d.detach()


def main() -> None:
    """Train, simulate, perturb and write."""
    file, gamma, seconds, seed, out = sys.argv[1], *map(float, sys.argv[2:5]), sys.argv[5]
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    data = {key: torch.as_tensor(value) for key, value in np.load(file).items()}
    us, ys, warm, washout = data["us"].float(), data["ys"].float(), int(data["warm"]), int(data["washout"])
    model = DeepSSM(
        d_input=1, d_output=1, d_model=6, d_state=6, n_layers=2, param="l2n", ff="MBLIP", gamma=gamma
    )

    def simulate(u):
        return model(u, mode="scan")[0]

    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    begin, steps = time.process_time(), 0
    while (spent := time.process_time() - begin) < seconds:
        for (
            group
        ) in optimizer.param_groups:  # a cosine over the time, whose number of steps is not known before
            group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * spent / seconds)) / 2
        chosen = torch.randint(len(us), (BATCH,))
        optimizer.zero_grad()
        ((simulate(us[chosen]) - ys[chosen])[:, warm:] ** 2).mean().backward()
        optimizer.step()
        steps += 1
    model.eval()
    found = {}
    with torch.no_grad():
        for name in ("clean", "arrow"):
            found[name] = simulate(data[f"u_{name}"].float()[None])[0].numpy()
    attacked, truth = data["u_attacked"].float(), data["y_attacked"].float()
    d = ascended(simulate, attacked, truth, washout, float(data["share"]), int(data["steps"]), int(seed))
    with torch.no_grad():
        found["before"], found["after"] = simulate(attacked).numpy(), simulate(attacked + d).numpy()
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    np.savez(
        out,
        **found,
        d=d.numpy(),
        weights=weights,
        training_steps=steps,
        bound=float(model.certified_gain_bound()),
    )


if __name__ == "__main__":
    main()
