"""What an exchange must be to teach, and its text made fit."""
