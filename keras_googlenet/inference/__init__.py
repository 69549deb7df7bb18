"""A trained network that answers for photos, whichever way it is stored."""
