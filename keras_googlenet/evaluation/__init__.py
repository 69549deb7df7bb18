"""Figures and pictures of what a network does on images that it has not seen."""
