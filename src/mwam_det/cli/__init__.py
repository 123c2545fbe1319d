"""The command line `mwam-det`."""
