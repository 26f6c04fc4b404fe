"""What speaks against targets."""
