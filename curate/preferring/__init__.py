"""Pairs of answers of which one is better."""
