"""Which inputs are alike, judged on what varies; on one machine or many."""
