"""Tests of the prose: documents, messages of the alert rules, descriptions of metrics, docstrings."""
