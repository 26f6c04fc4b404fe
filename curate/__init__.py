"""From traffic to trustworthy examples: selection, duplicates, splits, review, frozen versions."""
