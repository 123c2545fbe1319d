"""What is raised where a dataset cannot be used."""


class DatasetError(ValueError):
    """A dataset cannot be used as it is; the message says where, what and how to mend it."""
