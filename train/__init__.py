"""From a dataset version to an adapter: recipes, runs, evaluation."""
