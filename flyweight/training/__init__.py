"""Training: one loop for every detector, on one core or several devices."""
