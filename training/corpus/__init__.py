"""The demo model's training text: generated here, from templates written for it, and from nothing else."""
