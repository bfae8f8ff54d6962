"""Intaglio."""
