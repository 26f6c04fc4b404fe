"""The terminal interface: windows on the store, and no behaviour of its own."""
