"""Orders: places them at the catalogue's prices, starts and instructs their sagas, and keeps the record that customers read."""
