"""The `commerce` command: run the platform on this machine, look into it, check it."""
