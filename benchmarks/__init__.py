"""What one order costs, on this machine, in one run: `make bench`."""
