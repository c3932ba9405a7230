"""What changes identity. Each function makes its change in one transaction; hashing, which takes long, is done outside of it."""
