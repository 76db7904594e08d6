"""What an archive holds: open collections of the Imaging Data Commons, of which an index tells the scans with two kernels."""
