"""Analytics: what was sold, when, and to whom; computed from the other services' events."""
