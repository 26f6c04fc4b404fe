"""Recipes that ship with Potstill: complete, commented, ready to copy."""
