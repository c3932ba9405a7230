"""What the benchmark computes and shows; nothing is measured here."""
