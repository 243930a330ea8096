"""Engines that ask another server over OpenAI's API: requests to JSON, chunks to events."""
