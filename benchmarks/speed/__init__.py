"""Speed, measured as ratios in one process: our R2DN, the published arrangement, a REN as strong as ours, LSTM and GRU."""

from .measure import benchmark as benchmark
