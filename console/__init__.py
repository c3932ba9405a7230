"""What stands before Temporal's Web UI: a login for staff, and the codec server that shows what is encrypted in histories."""
