"""Names as they may be shown: everything that could identify a person is masked.

Here: the allow-list of technical words and the masking of file and folder names. Not here: which files there are
(`ingestion.deliveries`). Sites name folders after patients; what is not known to be harmless is masked.
"""

from __future__ import annotations

import re
from pathlib import PurePath

MASK = "*"

WORDS = frozenset(
    """
    adc anat anon archive axial ax baseline bids bmp bold brain bval bvec complete consent cor coronal coverage csv dat
    data dcm delivery demographics dicom dicomdir dicoms dir dmt doc docx dti dwi echo edmus edss ep epi export extract
    febrile file files flair fmri fsl func gd gre gz head headers html im image images img ima index info jpeg jpg json
    labs license licence localizer magnitude manifest mask mdd mp2rage mpr mprage mr mri ms msbase nifti nii notes
    observations ods pat part patient patients pd pdf pdw phantom phase png ppt pptx protocol ptx raw readme registry
    relapse relapses report rest resting rtf run sag sagittal scan scanner scans sense ser series ses session sessions
    siemens philips ge space spgr spine stir study sub subject subjects swi t1 t1w t2 t2w tab table tables tar task test
    tfe tgz treatment treatments tse tsv txt update upload v1 v2 v3 visit visits volume xls xlsb xlsm xlsx xml xz bz2
    tbz2 txz yaml yml zip 2d 3d
    january february march april may june july august september october november december
    q1 q2 q3 q4 final new old copy full partial monthly quarterly yearly week month quarter year
    """.split()
)
"""Words of the field, file formats and calendar. A word that is also a common first name does not belong here."""

_RUN = re.compile(r"[^\W_]+", re.UNICODE)
_PIECES = re.compile(r"\d+|[^\W\d_]+", re.UNICODE)
_SEPARATOR = re.compile(r"[^\w ./()*-]", re.UNICODE)


def _is_harmless(token: str) -> bool:
    return token.casefold() in WORDS or (token.isascii() and token.isdigit() and len(token) <= 4)


def _shown(match: re.Match[str]) -> str:
    run = match.group()
    if _is_harmless(run):
        return run
    pieces: list[str] = _PIECES.findall(run)
    digits = sum(len(piece) for piece in pieces if piece.isdigit())
    # `visits2026` is two harmless pieces; more than four digits in one run may be a number of a person.
    if digits <= 4 and all(_is_harmless(piece) for piece in pieces):
        return run
    return MASK


def display_name(path: PurePath | str) -> str:
    """A path or name that identifies nobody.

    Every token that is neither a technical word of the allow-list nor a number of at most four digits becomes `*`;
    separators stay, so that a site recognises the shape of its own names.
    """
    text = path.as_posix() if isinstance(path, PurePath) else path
    masked = _SEPARATOR.sub(MASK, _RUN.sub(_shown, text))
    return re.sub(r"\*{2,}", MASK, masked)
