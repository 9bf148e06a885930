"""Make a trained detector smaller or faster: fold, quantise, and the ledger of what it cost."""
