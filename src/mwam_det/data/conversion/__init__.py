"""From a dataset as it was published to the folders that training reads."""
