import pytest
from hosts import write_pictures, write_rooms


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Two classes in folders, two modalities; read only."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """Rooms with labels a pixel; read only."""
    return write_rooms(tmp_path_factory.mktemp("rooms"))
