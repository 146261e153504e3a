"""Fine-tuning jobs: the queue, the processes that train, and what is written down of a training."""
