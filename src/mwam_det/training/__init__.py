"""What any training with modalities needs, whatever the host: one object for the run, and views with some missing."""
