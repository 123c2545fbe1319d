"""What users' files hold, looked at before anything relies on it: YAML, headers of images, folders."""
