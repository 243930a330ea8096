"""Fetches models: from a Hugging Face hub or a URL into shimmy's own folder, and away again.

Nothing that a hub or a server says is taken for a path of this machine before `names` has looked at it.
"""
