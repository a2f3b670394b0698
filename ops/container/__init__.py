"""What is in the image, and how does a container say that it lives?"""
