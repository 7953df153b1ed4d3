"""What is written down for others: the custom resource, names, and messages between parts."""
