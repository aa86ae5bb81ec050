"""Stage 0: manifests, label budgets and text from a corpus."""
