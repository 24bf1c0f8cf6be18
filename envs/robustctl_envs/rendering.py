"""Rendering of the plants with matplotlib."""

from typing import Any

import gymnasium as gym
import numpy as np

from .drawings import DRAWINGS, signals
from .functional import FunctionalEnv


class Renderer:
    """Draws the plant's state, as an array for `rgb_array` or in a window for `human` (without a display it warns)."""

    def __init__(self, env: FunctionalEnv, mode: str):
        self.env, self.mode = env, mode
        self.figure: Any = None
        self._last: tuple[np.ndarray, np.ndarray, int] | None = None

    def update(self, x: np.ndarray, control: np.ndarray, t: int) -> None:
        """Set the state, control and sample to draw; in `human` mode draw them at once."""
        self._last = (x, control, t)
        if self.mode == "human":
            self._draw()
            self.figure.canvas.draw_idle()
            self.figure.canvas.flush_events()

    def picture(self) -> np.ndarray | None:
        """Return the picture (height, width, 3) of 8-bit colors; None in a window."""
        if self.mode == "human" or self._last is None:
            return None
        self._draw()
        self.figure.canvas.draw()
        return np.asarray(self.figure.canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        """Close the window."""
        if self.figure is not None and self.mode == "human":
            import matplotlib.pyplot as plt

            plt.close(self.figure)
        self.figure = None

    def _open(self) -> None:
        if self.mode == "human":
            import matplotlib.pyplot as plt

            self.figure = plt.figure(figsize=(5, 4), dpi=96)
            if plt.get_backend().lower() == "agg":
                gym.logger.warn(
                    "render_mode='human' found no display for matplotlib: nothing is shown; use 'rgb_array'"
                )
                return
            plt.show(block=False)
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(5, 4), dpi=96)
        FigureCanvasAgg(self.figure)

    def _draw(self) -> None:
        if self.figure is None:
            self._open()
        assert self._last is not None and self.figure is not None
        x, control, t = self._last
        plant = self.env.sampled.plant
        self.figure.clear()
        ax = self.figure.add_axes((0.13, 0.12, 0.83, 0.74))
        DRAWINGS.get(type(plant).__name__, signals)(ax, plant, x, control)
        pairs = zip(plant.controls, control, strict=True)
        controls = ", ".join(f"{s.name} {float(u):.2f} {s.unit}" for s, u in pairs)
        ax.set_title(f"t = {t * self.env.sampled.dt:.2f} s    {controls}", fontsize=9)
        ax.tick_params(labelsize=8)
