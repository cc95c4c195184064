"""NIfTI files made here: texts in headers, broken files, names, sidecars."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import nibabel
import numpy as np
import pytest

from ingestion.imaging import ImageFile, ImagesResult, receive_images
from ingestion.imaging.nifti_delivery import session_of, subject_of
from warehouse.errors import RanvierError
from warehouse.home import Home
from warehouse.lake import sha256_file
from warehouse.pseudonyms import Pseudonyms

T = TypeVar("T")
R = TypeVar("R")


def _image(path: Path, data: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = np.random.default_rng(len(str(path))).integers(0, 900, (12, 10, 8)).astype(np.int16)
    image = nibabel.Nifti1Image(data, np.diag([2, 2, 3, 1]))
    image.header["descrip"] = b"Musterfrau Erika 1970"
    image.header["db_name"] = b"Musterfrau"
    image.header["aux_file"] = b"musterfrau.txt"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"Musterfrau in a comment"))
    nibabel.save(image, path)
    return path


def _receive(home: Home, folder: Path) -> tuple[ImagesResult, dict[str, int]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [ImageFile(path, number, sha256_file(path), path.stat().st_size) for number, path in enumerate(paths, 1)]
    result = receive_images(home, "AAA", "dlv_1", files, Pseudonyms(home))
    assert result.files.keys() == {file.file_number for file in files}
    return result, {file.path.name: file.file_number for file in files}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def delivery(home: Home) -> Path:
    folder = home.landing / "AAA" / "delivery1"
    folder.mkdir(parents=True)
    return folder


def test_header_texts_and_extensions_are_blanked_and_voxels_kept(home: Home, delivery: Path) -> None:
    source = _image(delivery / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz")
    result, _ = _receive(home, delivery)
    stored = home.lake / "bids" / result.series["bids_path"][0]
    assert b"usterfrau" not in gzip.decompress(stored.read_bytes())
    one, other = nibabel.load(source), nibabel.load(stored)
    assert np.array_equal(one.dataobj, other.dataobj) and np.array_equal(one.affine, other.affine)
    subject = Pseudonyms(home).key("subject", "AAA", "01")
    assert result.series["subject_key"].to_list() == [subject]


def test_same_voxels_compressed_otherwise_are_one_object(home: Home, delivery: Path) -> None:
    first = _image(delivery / "sub-01" / "sub-01_T1w.nii.gz")
    second = delivery / "sub-02" / "sub-02_T1w.nii"
    second.parent.mkdir()
    second.write_bytes(gzip.decompress(first.read_bytes()))
    result, _ = _receive(home, delivery)
    assert result.series["image_sha256"].n_unique() == 1 and result.series["series_key"].n_unique() == 2


def test_sidecar_is_cut_to_known_keys(home: Home, delivery: Path) -> None:
    image = _image(delivery / "sub-01" / "sub-01_FLAIR.nii.gz")
    side = {"EchoTime": 0.12, "RepetitionTime": 9.0, "Manufacturer": "SIEMENS", "PatientNumber": 12345678}
    side |= {"PatientName": "Musterfrau", "InstitutionName": "Musterfrau Clinic", "Note": "Musterfrau"}
    side |= {"AcquisitionDateTime": "2026-01-02T03:04:05"}
    image.with_name("sub-01_FLAIR.json").write_text(json.dumps(side))
    (delivery / "dataset_description.json").write_text("{}")
    result, numbers = _receive(home, delivery)
    kept = json.loads((home.lake / "bids" / result.series["bids_path"][0].replace(".nii.gz", ".json")).read_text())
    assert kept == {"EchoTime": 0.12, "RepetitionTime": 9.0, "Manufacturer": "SIEMENS"}
    row = result.series.row(0, named=True)
    assert (row["echo_time_ms"], row["repetition_time_ms"], row["manufacturer"]) == (120, 9000, "Siemens")
    assert str(row["acquisition_datetime"]) == "2026-01-02 03:04:05" and row["files_count"] == 2
    assert result.files[numbers["dataset_description.json"]].reason_code == "not_used"


def test_inherited_sidecar_serves_every_image(home: Home, delivery: Path) -> None:
    for subject in ("01", "02"):
        _image(delivery / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz")
    (delivery / "T2w.json").write_text(json.dumps({"EchoTime": 0.09}))
    result, numbers = _receive(home, delivery)
    assert result.series["echo_time_ms"].to_list() == [90, 90]
    assert result.files[numbers["T2w.json"]].status == "accepted"


def test_each_unusable_file_is_refused_alone(home: Home, delivery: Path) -> None:
    sound = _image(delivery / "patient01" / "study1_T1W.nii.gz")
    (sound.with_name("cut_T1W.nii.gz")).write_bytes(sound.read_bytes()[:-300])
    (sound.with_name("text_T1W.nii")).write_text("not an image at all, but rather long text" * 20)
    (sound.with_name("empty_T1W.nii")).write_bytes(b"")
    _image(sound.with_name("lesion_mask.nii.gz"))
    _image(sound.with_name("hidden_T2W.nii.gz"), (np.indices((12, 10, 8)).sum(0) > 14).astype(np.uint8))
    _image(sound.with_name("colour_T2W.nii.gz"), np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    sound.with_name("to_space.txt").write_text("#Insight Transform File V1.0\n")
    result, numbers = _receive(home, delivery)
    codes = {name: result.files[number].reason_code for name, number in numbers.items()}
    assert codes == {
        "study1_T1W.nii.gz": None,
        "cut_T1W.nii.gz": "truncated",
        "text_T1W.nii": "unreadable_nifti",
        "empty_T1W.nii": "unreadable_nifti",
        "lesion_mask.nii.gz": "not_an_acquisition",
        "hidden_T2W.nii.gz": "not_an_acquisition",
        "colour_T2W.nii.gz": "not_grayscale",
        "to_space.txt": "transform",
    }
    assert result.series.filter(status="accepted").height == 1


@pytest.mark.parametrize(
    ("name", "subject", "session"),
    [
        ("sub-07/ses-2/anat/sub-07_ses-2_T1w.nii.gz", "07", "2"),
        ("longitudinal/patient01/raw/study2_FLAIR.nii.gz", "patient01", "2"),
        ("patient07_MNI/T1_brain.nii.gz", "patient07_MNI", "1"),
        ("images/P0042/visit3/flair.nii.gz", "P0042", "3"),
    ],
)
def test_whose_image_a_name_says_it_is(name: str, subject: str, session: str) -> None:
    parts = tuple(name.split("/"))
    assert subject_of(parts) == subject
    assert session_of(parts) == session


def test_a_worker_that_dies_refuses_nothing(home: Home, delivery: Path) -> None:
    _image(delivery / "sub-01" / "sub-01_T1w.nii.gz")

    def dying(function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R | Exception]]:
        yield from ((at, RuntimeError("worker gone")) for at in range(len(items)))

    file = next(path for path in delivery.rglob("*.gz"))
    files = [ImageFile(file, 1, sha256_file(file), file.stat().st_size)]
    result = receive_images(home, "AAA", "dlv_1", files, Pseudonyms(home), mapper=dying)
    assert result.files[1].status == "accepted"


def test_a_full_disk_is_not_the_fault_of_the_series(
    home: Home, delivery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    _image(delivery / "sub-01" / "sub-01_T1w.nii.gz")
    monkeypatch.setattr("ingestion.imaging.nifti_delivery.store", full)
    with pytest.raises(RanvierError, match="make room"):
        _receive(home, delivery)
