"""`commerce release`: what the saga promises, what a change of it breaks, and which builds run."""
