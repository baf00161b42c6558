"""Records: what a run leaves behind, and whether it still holds."""
