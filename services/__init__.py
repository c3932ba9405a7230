"""The bounded contexts. Each has its own database and never imports another, nor the orchestration."""
