"""Ingestion: deliveries, registry readers, DICOM and NIfTI receiving, de-identification, conversion, the simulator.

Nothing here judges what it reads, and nothing here writes SQL.
"""
