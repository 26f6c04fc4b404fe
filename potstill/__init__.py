"""The command line: parses, calls, prints. It holds no behaviour of its own."""

__version__ = "0.1.0"
