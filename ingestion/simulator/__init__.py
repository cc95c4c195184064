"""The network simulator: heads with MS and the scanners that see them.

Nothing of the pipeline imports it, and nothing here judges what it makes.
"""
