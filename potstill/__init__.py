"""The command line: parses, calls, prints. It holds no behaviour of its own."""
