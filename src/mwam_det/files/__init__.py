"""Safe handling of users' files: YAML, image headers, folders, locks and atomic writes."""
