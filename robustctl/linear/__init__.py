"""Linear models of several inputs and outputs from arrays: a subspace method, nonlinear least squares, selection by validation."""
