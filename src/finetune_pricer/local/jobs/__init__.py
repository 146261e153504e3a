"""Fine-tuning jobs of the local server: the queue, the trainer's process, and what it reports."""
