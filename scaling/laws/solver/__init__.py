"""The numerics of a fit: what no user of a law reads."""
