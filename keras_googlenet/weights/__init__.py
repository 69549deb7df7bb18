"""Pretrained weights: where they are published, and how they become this package's."""
