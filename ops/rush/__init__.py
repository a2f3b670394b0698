"""How does a whole sale go when everybody comes at once? Real HTTP clients, a real house, and the proof at the end.

It opens a house of its own, lets two thousand buyers in, sells it out and compares three stories: what the buyers were
told, what the database says, and what the payment provider has charged.
"""
