"""What customers, staff and operators go through, on the whole platform as processes. One platform serves all journeys."""
