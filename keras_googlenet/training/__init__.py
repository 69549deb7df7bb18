"""Training: the run's configuration, its loop and its folder."""
