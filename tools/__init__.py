"""What the Makefile calls: plain Python, so that the recipes stay one line each."""
