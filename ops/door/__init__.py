"""A door without a network, in Python: what a scanner's app has to do, small enough to read."""
