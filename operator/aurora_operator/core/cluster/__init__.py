"""The operator's decisions, pure: a snapshot goes in, a plan comes out.

``observation`` is the snapshot, ``plan.decide`` the only entry; the other modules each hold one
subject that the plan is made of. Nothing here reads a clock, draws a random number or talks to
anything, so every state of a cluster can be written down as a test.
"""
