"""The ways to mail servers and other providers, and to identity."""
