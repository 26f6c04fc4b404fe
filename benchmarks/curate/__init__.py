"""Figures of curation: the cost of a build, and how well duplicates, splits, samples and personal data come out."""
