"""Figures and pictures of a network's predictions on images that it has not seen."""
