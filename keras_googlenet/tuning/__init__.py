"""Channel search: the best counts of Table 1 for given images and budget."""
