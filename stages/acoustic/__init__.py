"""Stages 4 to 7: language model, CTC training, decoding, scoring."""
