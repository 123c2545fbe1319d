"""Ultralytics' training, validation and facade, for several modalities and with MWAM."""
