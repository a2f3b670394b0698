"""How fast is it on this machine, and where does the time go? `boxoffice bench`; it measures and asserts nothing."""
