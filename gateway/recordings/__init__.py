"""What the sensors said, written down: recordings, how they are made, and how they are played back."""
