"""What could not be handled, and what becomes of it: looked at, sent back, or dropped."""
