"""Training classifiers: where a backbone's weights come from when nobody publishes them."""
