"""What an archive holds: protocols, noise, sharpness, and what could be standardized to what."""
