"""Models of other hosts, each with one encoder a modality."""
