"""One file a corpus, found by its name. What a file must have: see stages/prepare/corpus.py."""
