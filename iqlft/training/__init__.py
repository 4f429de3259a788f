"""The learner: pretraining, fine-tuning, and what their loops are made of."""
