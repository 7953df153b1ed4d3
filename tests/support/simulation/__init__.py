"""The volume in one process: six copies, three instances, and everything that can go wrong.

A seed decides who does what next, which message arrives, and what breaks. Every decision is the
real one of ``core`` (and the real ``volume.hub``); disks, network, PostgreSQL and the agents'
loops are stand-ins that may stop between any two steps. Bytes of the log are numbers that exist
once, so the model knows of each byte who wrote it and where it is, and after each step it compares
that with what the protocol believes.

``world`` runs a seed, ``storage_pod`` (on ``copy``) and ``instance`` (with ``attempt``, ``lookout``
and ``handover``) are the two kinds of pods, ``server`` is PostgreSQL as far as log and
acknowledgements go, ``network`` loses and delays, ``ledger`` knows what was told to anybody,
``faults`` break things, ``run`` goes through many seeds.
"""
