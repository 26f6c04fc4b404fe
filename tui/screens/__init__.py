"""The six screens and their overlays."""
