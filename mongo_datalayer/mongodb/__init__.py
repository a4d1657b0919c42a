"""The driver seam: connecting, retrying, ordering writes."""
