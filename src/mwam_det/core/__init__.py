"""The method on its own: torch and nothing else. Knows no Ultralytics, no files, and not that there are two streams."""
