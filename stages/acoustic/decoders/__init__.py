"""One file a decoder, found by its name; what a file must have: see stages/acoustic/decoding.py."""
