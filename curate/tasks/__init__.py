"""Which task an exchange belongs to, and the prompt that its app wrote."""
