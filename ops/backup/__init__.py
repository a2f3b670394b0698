"""How does a shop that was destroyed come back, and what of it has been lost?"""
