"""Typed configuration: blocks, YAML with file and line, presets, layers with origins."""
