"""A push service of browsers."""
