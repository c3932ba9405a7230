"""What changes inventory: reservations, which sagas ask for, and what people do in warehouses. Each function marked so is one
transaction; each is idempotent."""
