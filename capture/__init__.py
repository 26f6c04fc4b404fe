"""What passed through, kept exactly: the spool, the store writer, the store and the ways to read it."""
