"""Imaging as it arrives: DICOM and NIfTI files in, pseudonymous NIfTI with acquisition parameters out.

Here: indexing headers and classifying series. Not here: judging an image (`qa`), or finding and unpacking deliveries
(`ingestion.deliveries`, `ingestion.receive`).
"""
