"""Users, threads and files as a file of lines, and back: the format, writing it, reading it."""
