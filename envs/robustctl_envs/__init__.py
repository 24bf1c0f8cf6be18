"""Gymnasium environments of robustctl's plants; none is registered yet."""
