"""What `shimmy bench` is made of: prompts, load, figures, a local and a remote target, the report."""
