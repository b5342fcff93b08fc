"""The steps that Carboy brings along, a module for each."""
