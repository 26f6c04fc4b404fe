"""Dataset versions in the formats of others, and data sets of others as rows that teach."""

from __future__ import annotations
