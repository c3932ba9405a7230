"""Identity: users, their passwords and roles, and the tokens that tell every other process who is asking."""
