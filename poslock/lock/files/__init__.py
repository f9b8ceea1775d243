"""Locks as files in a directory of one host: the directory and the files in it, and the system calls for them."""
