import subprocess
import sys

import pytest

from mwam_det.files.locks import LOCK, FolderInUse, Hold


def test_a_folder_is_held_by_one_at_a_time_and_nothing_is_left_in_it(tmp_path):
    folder = tmp_path / "run"
    with Hold(folder):
        assert (folder / LOCK).exists()
        with pytest.raises(FolderInUse, match=f"another process works in {folder}"):
            Hold(folder)
    assert not list(folder.iterdir())
    Hold(folder).release()


def test_another_process_is_refused_and_one_that_was_killed_holds_nothing(tmp_path):
    lines = [
        "import sys, time",
        "from mwam_det.files.locks import Hold",
        "held = Hold(sys.argv[1])",
        "print(1, flush=True)",
    ]
    code = "\n".join([*lines, "time.sleep(60)"])
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        with pytest.raises(FolderInUse):
            Hold(tmp_path)
        process.kill()
        process.wait()
    Hold(tmp_path).release()
    assert not list(tmp_path.iterdir())
