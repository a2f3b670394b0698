"""What is worth waking somebody for, which figures are worked out from others, and who is asked for them?"""
