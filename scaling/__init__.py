"""Scaling laws of dense and natively low-rank transformers, from one YAML file to a report."""

__version__ = "0.1.0"
