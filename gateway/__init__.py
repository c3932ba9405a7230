"""The front door: one address, one login, one document for the public endpoints of all services, and for nothing else."""
