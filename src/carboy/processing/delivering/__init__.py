"""Ids of jobs, sent to a broker and delivered to those who run them."""
