"""Simulated series: the same bytes again, headers that are read rightly, files that convert, faults that show."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from ingestion.imaging.classify import classify
from ingestion.imaging.index import index_files
from ingestion.imaging.model import ImageFile
from ingestion.simulator import simulate
from ingestion.simulator.anatomy import Anatomy
from ingestion.simulator.dicom import Session, Subject, mistimed, write_series
from ingestion.simulator.faults import RULES, Disturbance, assign_lines, disturbance, measure
from ingestion.simulator.make import SeriesTask, make_series
from ingestion.simulator.network import CENTRES, Centre, Protocol
from ingestion.simulator.scanner import Scan, scan, subject_shape
from ingestion.simulator.truth import PlannedScan
from warehouse.home import Home

SUBJECT = Subject("X-0001", "Thornwaite-Coldstone", "Ada", "F", dt.date(1980, 2, 3))


def small(protocol: Protocol) -> Protocol:
    """The protocol with voxels twice as large each way: the same geometry, an eighth of the work."""
    rows, columns = protocol.matrix
    shape = {"matrix": (rows // 2, columns // 2), "pixel_mm": protocol.pixel_mm * 2}
    return replace(protocol, **shape, slices=protocol.slices // 2, slice_mm=protocol.slice_mm * 2)


def take(head: Anatomy, centre: Centre, contrast: str, wanted: Disturbance, seed: int = 1) -> Scan:
    protocol = small(centre.scanner.protocols[contrast])
    return scan(head, centre.scanner, protocol, contrast, subject_shape([1, 2]), wanted, [seed, 3])


def write(folder: Path, made: Scan, centre: Centre, contrast: str, wanted: Disturbance, lost: frozenset[int]) -> int:
    protocol = small(centre.scanner.protocols[contrast])
    session = Session(dt.datetime(2026, 9, 1, 10, 5), 2, centre.site.code, "study", 1)
    return write_series(
        folder, centre.image_file, made, centre.scanner, protocol, contrast, SUBJECT, session, wanted, lost
    )


def level(made: Scan) -> float:
    return float(np.percentile(made.pixels, 99))


@pytest.mark.parametrize("centre", CENTRES, ids=lambda c: c.site.code)
@pytest.mark.parametrize("contrast", ["T1w", "FLAIR"])
def test_headers_are_indexed_and_classified_rightly(
    head: Anatomy, tmp_path: Path, centre: Centre, contrast: str
) -> None:
    made = take(head, centre, contrast, Disturbance())
    count = write(tmp_path / "s", made, centre, contrast, Disturbance(), frozenset())
    paths = sorted((tmp_path / "s").iterdir())
    assert count == len(paths) == len(made.pixels)
    files = [ImageFile(path, i, "", path.stat().st_size) for i, path in enumerate(paths)]
    rows = index_files(files)
    assert rows["reason_code"].null_count() == rows.height
    assert rows["series_uid"].n_unique() == rows["study_uid"].n_unique() == 1
    assert rows["sop_instance_uid"].n_unique() == rows.height
    row = rows.row(0, named=True)
    found = classify(row, None)
    assert (found.contrast, found.is_derived, found.is_contrast_enhanced, found.is_header_phantom) == (
        contrast, False, False, False,
    )  # fmt: skip
    assert row["patient_id"] == SUBJECT.patient_id
    assert row["acquisition_dimension"] == "3D"
    assert row["table_position_mm"] == 0
    # The same with its name taken away: the timing alone tells T1w from FLAIR.
    bare = row | {"series_description": "", "protocol_name": "", "sequence_name": ""}
    assert classify(bare, None).contrast == contrast


def test_converts_with_the_head_upright_and_where_the_header_says(head: Anatomy, tmp_path: Path) -> None:
    program = str(importlib.import_module("dcm2niix").bin_path)
    for centre in CENTRES[0], CENTRES[3]:
        made = take(head, centre, "T1w", Disturbance())
        folder = tmp_path / centre.site.code
        write(folder, made, centre, "T1w", Disturbance(), frozenset())
        out = tmp_path / f"{centre.site.code}_nii"
        out.mkdir()
        command = [program, "-ba", "y", "-z", "n", "-f", "scan", "-o", str(out), str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        image = nib.as_closest_canonical(nib.load(out / "scan.nii"))
        assert [p.name for p in out.glob("*.nii")] == ["scan.nii"]
        data = np.asarray(image.dataobj)
        assert data.size == made.pixels.size and data.sum() == made.pixels.sum()
        corner = image.affine @ [0, 0, 0, 1]
        middle = image.affine @ [*(np.array(data.shape) / 2), 1]
        assert corner[2] < -100 and abs(middle[0]) < 10
        # The neck leaves the field of view at the feet; there is air above the vertex and before the nose.
        bright = data > 0.15 * np.percentile(data, 99)
        assert bright[:, :, 1].mean() > 0.1 > 0.02 > bright[:, :, -2].mean()
        sidecar = json.loads((out / "scan.json").read_text())
        assert sidecar["Modality"] == "MR" and sidecar["MagneticFieldStrength"] == 3


def test_same_task_same_bytes_another_seed_other_noise(head_cache: Path, tmp_path: Path) -> None:
    planned = PlannedScan(3, 0, 1, 1, "FLAIR", "missing_slices", 0.5)
    acquired = dt.datetime(2026, 9, 1, 9)
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        task = SeriesTask(head_cache, tmp_path / name, CENTRES[0], planned, SUBJECT, acquired, "st", seed)
        assert make_series(task) == CENTRES[0].scanner.protocols["FLAIR"].slices - 8
        found = sorted((tmp_path / name).iterdir())
        texts.append([(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in found])
    assert texts[0] == texts[1] != texts[2]
    numbers = np.array(sorted(pydicom.dcmread(p, stop_before_pixels=True).InstanceNumber for p in found))
    assert 1 < numbers[np.argmax(np.diff(numbers))] < len(numbers) and np.diff(numbers).max() == 9


def test_faults_show_and_grow_with_severity(head: Anatomy) -> None:
    centre = CENTRES[0]
    sound = take(head, centre, "T1w", Disturbance())

    def air(made: Scan) -> float:
        """Mean of two corners of the middle slice, before the face and above it, against the brightest tissue."""
        middle = made.pixels[len(made.pixels) // 2]
        return float(middle[:20, :20].mean() + middle[:20, -15:].mean()) / level(made)

    def get(kind: str, severity: float) -> Scan:
        return take(head, centre, "T1w", disturbance(kind, severity, "T1w", np.random.default_rng(1)))

    assert air(get("low_snr", 1.0)) > air(get("low_snr", 0.5)) > 2 * air(sound)
    for kind in ("motion", "ghosting"):
        columns = [made.pixels[:, 40:60, :4].mean() / level(made) for made in (sound, get(kind, 0.5), get(kind, 1.0))]
        assert columns[0] < columns[1] < columns[2]
    shifts = [get("off_centre", s).first_position[2] - sound.first_position[2] for s in (0.5, 1.0)]
    assert shifts == pytest.approx([-75, -90])
    assert np.array_equal(get("off_centre", 1.0).pixels, sound.pixels)
    assert len(get("wrong_protocol", 1.0).pixels) < len(sound.pixels) / 2


def test_a_name_is_left_where_it_should_not_be(head: Anatomy, tmp_path: Path) -> None:
    for centre in CENTRES:
        made = take(head, centre, "T1w", Disturbance())
        for name, wanted in (("clean", Disturbance()), ("leak", Disturbance(leaks_name=True))):
            write(tmp_path / centre.site.code / name, made, centre, "T1w", wanted, frozenset(range(1, 500)))
            path = next((tmp_path / centre.site.code / name).iterdir())
            private = [e for e in pydicom.dcmread(path) if e.tag.is_private and SUBJECT.family_name in str(e.value)]
            assert len(private) == (name == "leak")


def test_every_kind_of_fault_changes_something() -> None:
    for kind in RULES:
        for contrast in ("T1w", "FLAIR"):
            for severity in (0.5, 1.0):
                assert disturbance(kind, severity, contrast, np.random.default_rng(0)) != Disturbance()
    assert disturbance("sound", None, "T1w", np.random.default_rng(0)) == Disturbance()
    flair = CENTRES[0].scanner.protocols["FLAIR"]
    assert mistimed(flair, "FLAIR").inversion_ms < 1500 < flair.inversion_ms


def test_k_space_of_a_still_head_is_the_image_itself() -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((4, 6, 32)).astype(np.complex64)
    assert np.allclose(measure([image.copy()], 2, Disturbance(), rng), image, atol=1e-5)
    states = assign_lines(64, 4, rng)
    assert set(states) == {0, 1, 2, 3} and (np.diff(states) >= 0).all()


def test_patients_of_the_scans_are_in_the_registry_with_consent(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for folder in home.folders():
        folder.mkdir(parents=True)
    home.network_file.write_text("sites: []\n", encoding="utf-8")
    truth = json.loads(simulate(home, sites=1, scans=1, subjects=15).read_text())
    folder = home.landing / "MILANO" / truth["scans"][0]["delivery"]
    rows = (folder / "consensi.csv").read_text(encoding="cp1252").splitlines()
    consented = {row.split(";")[0] for row in rows if row.split(";")[2:5] == ["sì"] * 3}
    sent = {
        pydicom.dcmread(next((folder / one["folder"]).iterdir()), stop_before_pixels=True).PatientID
        for one in truth["scans"]
    }
    assert sent and sent <= consented
    spoilt = {(f["file"], f["row"]) for f in truth["registry_faults"]}
    assert not {i for i, row in enumerate(rows, 1) if row.split(";")[0] in sent and ("consensi.csv", i) in spoilt}
