"""What a detector costs, sees and should change, before a week of training."""
