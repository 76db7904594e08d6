"""An archive made comparable in one command: which protocol is matched to the target how, and its series standardized."""
