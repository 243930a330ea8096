"""Settings from flags, the environment and shimmy.toml: one table, one precedence."""
