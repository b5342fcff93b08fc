"""Steps in processes of their own: the worker's side, and the other."""
