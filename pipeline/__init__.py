"""What every stage shares, and the program: recipe, steps, store, runner, audio, training."""
