"""Database engines: each folder is all that the project knows of one of them."""
