"""The door: relays every call untouched, and keeps a copy."""
