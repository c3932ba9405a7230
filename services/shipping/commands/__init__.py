"""What changes parcels. Each command is idempotent. Where a carrier is asked, that is between two transactions, never
within one."""
