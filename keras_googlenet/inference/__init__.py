"""A trained network that classifies photos, however it is stored."""
