"""What flowray and its peers cost for the same work, measured in one run."""
