"""People's decisions on examples, their order, their agreement, and samples of them."""
