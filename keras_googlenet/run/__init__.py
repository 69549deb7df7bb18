"""A training run's options, recipes, folder and checkpoints."""
