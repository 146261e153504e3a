"""Open language models with LoRA adapters: they train on this machine, and price exactly."""
