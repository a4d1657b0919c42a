"""What is stored, and how Python values become BSON. Pure: no driver, no I/O."""
