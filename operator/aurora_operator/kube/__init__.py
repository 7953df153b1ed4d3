"""Kubernetes API I/O, behind small protocols.

``endpoints`` and ``own_pod`` are what an instance's agent uses; the rest is the operator's.
"""
