"""Loop-based references, float64 and exact sums, written from the papers: they import nothing from advantage_zoo."""
