"""The functions behind the verbs of the command line; `boxel` exports them too."""
