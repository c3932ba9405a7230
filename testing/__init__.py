"""What demo, recorded histories, crash runs and explorations share: a shop that buys, faults, and what clients saw."""
