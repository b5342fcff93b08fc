"""What the figures become: a table on the terminal, a page, plots, raw data."""
