"""Contrast of the tissues that matter in MS: grey against normal-appearing white matter, and that against lesions.

Here: INNI's two relative contrasts, each as a ratio and as a normalised difference because the published abstract does
not say which; the simple lesion detector they need; fluid against white matter, which tells a contrast from its label.
Not here: tissue classes (`qa.imaging.tissue`). Nothing here reports a lesion load.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from qa.imaging.answers import all_unknown, answer, unknown
from qa.imaging.mask import eroded
from qa.imaging.tissue import Tissue
from qa.imaging.types import Image, Mask, Volume
from qa.model import Measure, Reason

SURE = 0.9
DEEP_STEPS = 5
"""Voxels from the brain's surface, beyond the fluid and the dura around it."""
VENTRICLES_AND_WHITE = ((0, 0.6), (2, 0.85))
"""Number of each class and how sure the template is: ventricles are narrow beside its smoothing."""
TEMPLATE_WHITE = 0.5
LESION_DEVIATIONS = 3.0
LESION_LEAST_MM3 = 10.0
LESION_LEAST_VOXELS = 3
MINIMUM_VOXELS = 50
MAD_TO_SIGMA = 1.4826
GREY_WHITE = ("gm_nawm_ratio", "gm_nawm_contrast")
LESION = ("lesion_ml", "nawm_lesion_ratio", "nawm_lesion_contrast")


def pair(first: float, second: float) -> tuple[float, float]:
    """Ratio of two levels, and their normalised difference."""
    return first / second, abs(first - second) / ((first + second) / 2)


def lesions(volume: Volume, corrected: Image, brain: Mask, tissue: Tissue) -> Mask:
    """Bright spots in white matter on FLAIR: brighter than grey matter by three deviations, of 10 mm3 and more.

    A lesion is brighter than any normal tissue and lies where the template has white matter. Flow and pulsation
    artefacts do so too: good enough to say how bright lesions are, not how many.
    """
    values = corrected[brain]
    grey = values[tissue.shares[1] > SURE]
    found = np.zeros(brain.shape, bool)
    if grey.size < MINIMUM_VOXELS:
        return found
    middle = float(np.median(grey))
    spread = float(np.median(np.abs(grey - middle))) * MAD_TO_SIGMA
    found[brain] = (values > middle + LESION_DEVIATIONS * spread) & (tissue.priors[2] > TEMPLATE_WHITE)
    labels, count = ndimage.label(found)
    if not count:
        return found
    least = max(LESION_LEAST_VOXELS, LESION_LEAST_MM3 / (1000 * volume.voxel_ml))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: Mask = (sizes >= least)[labels]
    return kept


def label_measure(corrected: Image, brain: Mask, tissue: Tissue | Reason, mask_sha256: str) -> Measure:
    """Fluid of the ventricles over white matter, where the template has both: whatever the classes were to be."""
    if isinstance(tissue, Reason):
        return unknown("csf_wm_ratio", tissue.code, tissue.text, mask_sha256)
    values = corrected[brain]
    deep = eroded(brain, DEEP_STEPS)[brain]
    fluid, white = (values[deep & (tissue.priors[number] > least)] for number, least in VENTRICLES_AND_WHITE)
    if min(fluid.size, white.size) < MINIMUM_VOXELS:
        text = "The template's ventricles are not in the image"
        return unknown("csf_wm_ratio", "no_ventricles", text, mask_sha256)
    return answer("csf_wm_ratio", float(np.median(fluid) / np.median(white)), mask_sha256)


def ms_contrast(
    volume: Volume, corrected: Image, brain: Mask, tissue: Tissue | Reason, contrast: str, mask_sha256: str
) -> list[Measure]:
    """Grey matter to normal-appearing white matter on T1w; that to lesions on FLAIR."""
    result: list[Measure] = []
    for names, wanted in ((GREY_WHITE, "T1w"), (LESION, "FLAIR")):
        if contrast != wanted:
            reason = Reason("other_contrast", f"This contrast is told on {wanted} images")
            result += all_unknown(names, reason, mask_sha256)
        elif isinstance(tissue, Reason):
            result += all_unknown(names, tissue, mask_sha256)
        elif wanted == "T1w":
            result += _grey_white(corrected[brain], tissue, mask_sha256)
        else:
            result += _lesion_contrast(volume, corrected, brain, tissue, mask_sha256)
    return result


def _normal_white(tissue: Tissue) -> NDArray[np.bool_]:
    """White matter by its intensity and by the template: what lesions make of it is neither."""
    sure: NDArray[np.bool_] = (tissue.shares[2] > SURE) & (tissue.priors[2] > TEMPLATE_WHITE)
    return sure


def _grey_white(values: Image, tissue: Tissue, mask_sha256: str) -> list[Measure]:
    grey, white = values[tissue.shares[1] > SURE], values[_normal_white(tissue)]
    if min(grey.size, white.size) < MINIMUM_VOXELS:
        reason = Reason("classes_empty", "There is too little sure grey or white matter")
        return all_unknown(GREY_WHITE, reason, mask_sha256)
    found = pair(float(np.median(grey)), float(np.median(white)))
    return [answer(name, value, mask_sha256) for name, value in zip(GREY_WHITE, found, strict=True)]


def _lesion_contrast(volume: Volume, corrected: Image, brain: Mask, tissue: Tissue, mask_sha256: str) -> list[Measure]:
    spots = lesions(volume, corrected, brain, tissue)
    amount = answer("lesion_ml", float(spots.sum()) * volume.voxel_ml, mask_sha256)
    white = corrected[brain][_normal_white(tissue)]
    if not spots.any() or white.size < MINIMUM_VOXELS:
        reason = Reason("no_lesions", "The detector finds no lesion in the image")
        return [amount, *all_unknown(LESION[1:], reason, mask_sha256)]
    found = pair(float(np.median(white)), float(np.median(corrected[spots])))
    return [amount, *(answer(name, value, mask_sha256) for name, value in zip(LESION[1:], found, strict=True))]
