"""Speed, measured as ratios in one process: our R2DN, the published arrangement, a REN of equal expressivity, LSTM and GRU."""

from .measure import benchmark as benchmark
