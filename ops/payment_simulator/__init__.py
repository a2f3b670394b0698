"""Who plays the payment provider when we work and test locally?

A process shaped like Stripe, whose durable log is the truth about money that our system is held against.
"""
