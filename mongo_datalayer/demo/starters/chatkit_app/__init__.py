"""A ChatKit server to go on from."""
