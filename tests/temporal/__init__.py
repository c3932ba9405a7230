"""What stands between the platform and Temporal."""
