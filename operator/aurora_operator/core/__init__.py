"""Pure decisions: data in, data out; no clock, no chance, no input or output."""
