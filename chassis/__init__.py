"""What every service needs and none owns. Knows nothing of orders, stock or money; stands on `contracts` alone."""
