"""Presets for `ucn run`, one YAML file each."""
