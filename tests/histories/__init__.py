"""Histories: what clients saw while a cluster was broken on purpose, judged by foreign checkers.

Clients (`client`) run generated transactions (`generate`) and log every attempt (`records`). Faults
are drawn from a seed (`faults`) and struck on a ground: a volume on loopback (`loopback`) or the
local Kubernetes (`local_cluster`). `judge` turns the log into questions for the checkers that we
did not write (`checkers`), and `run` does it all for one seed.
"""
