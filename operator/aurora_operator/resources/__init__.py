"""Pure builders, one kind of Kubernetes object each, and the diff that compares what is there.

A builder takes a ``ClusterContext`` and returns a manifest as plain data. Nothing here talks to an
API server, draws a key or knows the time: what is secret or random is handed in.
"""
