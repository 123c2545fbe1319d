"""Pairs on disk → batches of stacked modalities."""
