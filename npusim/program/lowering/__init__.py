"""From graphs to programs: a folder for each dialect, and the affine form of codes with scales and zero points."""
