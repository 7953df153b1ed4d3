"""An Aurora for your own Kubernetes: the operator, and the agent that runs in its pods."""
