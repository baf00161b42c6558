"""A study: one notebook's run, its arms, figures, claims and verdicts."""
