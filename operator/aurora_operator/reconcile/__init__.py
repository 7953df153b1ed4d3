"""Observe, decide, act: one cycle of one cluster, run again and again.

``observe`` gathers a snapshot, ``core.cluster.plan.decide`` turns it into a plan, ``act`` carries
the plan out, ``loop`` repeats that. Nothing is remembered between cycles that matters: an operator
that is killed at any point leaves a cluster which the next one finishes.
"""
