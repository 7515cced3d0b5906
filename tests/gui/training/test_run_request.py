"""Folders of new runs."""

from napari_msankd.training.run_request import discard, new_folder


def test_a_folder_is_taken_once(tmp_path):
    root = tmp_path / "runs"
    first, second = (new_folder(root, "mine") for _ in range(2))
    assert (first.name, second.name) == ("mine", "mine-2") and second.is_dir()
    discard(second)
    assert list(root.iterdir()) == [first]


def test_a_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    assert new_folder(tmp_path, "mine").name == "mine-2"
    assert (tmp_path / "mine").read_text() == "mine"
