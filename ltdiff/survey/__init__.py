"""What an archive holds: protocols, noise, sharpness, what could be standardized to what; and open scans with two kernels."""
