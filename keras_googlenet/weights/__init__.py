"""Pretrained weights: where they are published, and their conversion to this package's layers."""
