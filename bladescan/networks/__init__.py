"""The vision and text encoders, and where their first weights come from. It knows no loss and no training."""
