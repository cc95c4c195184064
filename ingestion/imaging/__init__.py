"""Imaging as it arrives: DICOM and NIfTI files in, pseudonymous NIfTI with acquisition parameters out.

Here: indexing headers, classifying, de-identifying and converting series. Not here: judging an image (`qa`), or finding
and unpacking deliveries (`ingestion.deliveries`, `ingestion.receive`).
"""

from ingestion.imaging.model import FileFate, ImageFile, ImagesResult
from ingestion.imaging.receive import receive_images

__all__ = ["FileFate", "ImageFile", "ImagesResult", "receive_images"]
