"""Figures: what commits and replicas cost, measured beside what others would cost on this machine.

Run by ``make bench-commit`` and ``make bench-lag``, inside the component root and on a real disk.
"""
