"""What a command does from end to end, over all the parts: recording a run, comparing methods, the demo."""
