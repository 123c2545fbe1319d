"""The method itself, in torch alone: independent of Ultralytics, of files and of the number of streams."""
