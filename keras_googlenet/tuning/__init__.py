"""Channel search: which of Table 1's counts are best for one's own images and budget."""
