"""Where a converted image lies in the BIDS tree, and what its sidecar may say.

Here: names by the Brain Imaging Data Structure 1.10, hard links to lake objects, and the allow-list of sidecar keys. Not
here: making the image (`convert`, `nifti`). Names hold keys only.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import Any

from ingestion.imaging.identity import Search
from ingestion.imaging.settings import load
from warehouse.home import Home
from warehouse.lake import fsync_folder, write_bytes, write_json

BIDS_VERSION = "1.10.0"
_PLACES = {
    "T1w": ("anat", "T1w"),
    "T2w": ("anat", "T2w"),
    "FLAIR": ("anat", "FLAIR"),
    "PDw": ("anat", "PDw"),
    "angio": ("anat", "angio"),
    "bold": ("func", "bold"),
    "dwi": ("dwi", "dwi"),
}
_NO_PLACE = "extra"
"""Folder of what BIDS has no suffix for (localizers, maps); `.bidsignore` lists it."""


def _label(key: str) -> str:
    """A key as a BIDS label: letters and digits only."""
    return re.sub(r"[^0-9a-zA-Z]", "", key.split("_")[-1])


def bids_path(subject_key: str, session_key: str, series_key: str, contrast: str, enhanced: bool) -> str:
    """Path of an image relative to `lake/bids`, unique by its series key."""
    folder, suffix = _PLACES.get(contrast, (_NO_PLACE, contrast))
    subject, session = f"sub-{_label(subject_key)}", f"ses-{_label(session_key)}"
    entities = [subject, session]
    if contrast == "bold":
        entities.append("task-unnamed")
    entities.append(f"acq-{_label(series_key)}")
    if enhanced:
        entities.append("ce-agent")
    return f"{subject}/{session}/{folder}/{'_'.join([*entities, suffix])}.nii.gz"


def link(home: Home, source: Path, relative: str) -> None:
    """Give a lake object its BIDS name, replacing an earlier conversion of the same series."""
    target = home.lake / "bids" / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        os.link(source, draft)
        os.replace(draft, target)  # does nothing when both are one file already
        fsync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def ensure_dataset(home: Home) -> None:
    """Write what makes a folder a BIDS data set, once."""
    root = home.lake / "bids"
    if not (root / "dataset_description.json").exists():
        write_bytes(root / ".bidsignore", f"**/{_NO_PLACE}/\n".encode())
        write_json(
            root / "dataset_description.json",
            {
                "Name": "Images of an MS network, pseudonymous",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "raw",
                "GeneratedBy": [{"Name": "Ranvier"}],
            },
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(_is_number(part) or _is_numbers(part) for part in value)


def clean_sidecar(sidecar: dict[str, Any], search: Search | None, *, from_site: bool) -> dict[str, Any]:
    """The part of a sidecar that is kept.

    Parameters
    ----------
    search
        Finds the words of the series' identity; a text that holds one is dropped.
    from_site
        A sidecar that arrived may use any key for anything, so numbers too are kept under known keys only.
    """
    policy = load("deid_policy.yaml")
    texts, dropped = set(policy["sidecar_text_keys"]), set(policy["sidecar_drop_keys"])
    numbers = set(policy["sidecar_number_keys"])
    kept: dict[str, Any] = {}
    for key, value in sorted(sidecar.items()):
        if key in dropped:
            continue
        if _is_number(value) or _is_numbers(value):
            if not from_site or key in numbers:
                kept[key] = value
        elif key in texts:
            parts = value if isinstance(value, list) else [value]
            if all(isinstance(part, str) and not (search and search.in_text(part)) for part in parts):
                kept[key] = value
    return kept
