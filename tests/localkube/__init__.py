"""A real Kubernetes with three zones on one Linux machine, without Docker.

The programs are the upstream ones, built from pinned Go modules. A node is a network,
mount and process namespace with its own containerd, kubelet and kube-proxy; so a node can be
powered off, frozen or cut off as a machine can, and taking the cluster down leaves nothing.
`localkube.cluster` is the interface for tests, `localkube.faults` breaks things,
`python -m localkube` is the same for people. It is a test bed: it holds nothing worth keeping.
"""
