"""Process 1 of every pod: it wires an engine to the volume and answers the agent API.

A storage pod's agent keeps one copy of the volume (``agent.storage``), an instance's agent a
cache of it with a server on top (``agent.instance``). Neither needs the operator or the Kubernetes
API to keep data safe.
"""
