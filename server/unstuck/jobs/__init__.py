"""Jobs, and the rules by which they change. Pure: no I/O, no clock, no environment."""
