"""The operators' side: health, metrics, console. It looks at everything and is needed by nothing."""
