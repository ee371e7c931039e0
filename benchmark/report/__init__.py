"""Leaderboard, comparisons, tables, figures and a page, all made from records."""
