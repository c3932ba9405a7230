"""Read replicas, on two real PostgreSQL servers."""
