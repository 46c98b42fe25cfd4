"""The numerics of a fit; internal."""
