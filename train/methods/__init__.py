"""Ways to train, one file each, readable from top to bottom."""
