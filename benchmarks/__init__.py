"""What the platform does and what it costs, on this machine: `make bench`. The parts are in `benchmarks/parts.py`."""
