"""What are we made of, and does anything in it endanger those who run it?"""
