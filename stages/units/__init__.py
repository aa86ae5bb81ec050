"""Stages 2 and 3: speech to units, and a BERT on them."""
