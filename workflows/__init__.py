"""Durable processes. Deterministic: no I/O, no clocks, no randomness but Temporal's own."""
