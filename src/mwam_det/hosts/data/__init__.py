"""Samples of other hosts: where they are, and how they are read and augmented."""
