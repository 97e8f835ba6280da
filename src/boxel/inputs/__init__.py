"""What users hand over: folders and texts of any origin, read so that nothing in them hangs, fills memory or crashes.

Errors are `InputError`: they name the file, the place in it, and what to do.
"""
