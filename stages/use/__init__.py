"""A finished recipe put to use: one folder with all that it takes, and speech to text by it."""
