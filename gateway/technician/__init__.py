"""What a technician on the ladder does: weigh, calibrate, diagnose, watch, commission."""
