"""What to know of a dataset before a long run: figures, and findings in sentences."""
