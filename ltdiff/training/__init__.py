"""The three training phases behind one protocol and one loop, on Ray Train."""
