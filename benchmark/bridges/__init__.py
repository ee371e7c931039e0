"""Bridges to other libraries; each library is imported on first use."""
