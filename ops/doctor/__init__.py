"""What is wrong with a deployment, and what is to be done about it?"""
