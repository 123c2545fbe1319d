import pytest


@pytest.fixture(autouse=True)
def scans(monkeypatch, tmp_path_factory):
    """A cache folder for each test, so that none reads what another scanned."""
    monkeypatch.setattr("mwam_det.data.dataset.SCANS", tmp_path_factory.mktemp("scans"))
