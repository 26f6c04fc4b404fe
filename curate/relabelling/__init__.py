"""Other answers to inputs, and which message stands in for an answer."""
