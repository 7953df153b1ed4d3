"""What tests and the demo share: clients, checkers, waiters. It imports ours, never the reverse."""
