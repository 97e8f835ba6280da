"""What the verbs of the command line call; `boxel` exports the same functions."""
