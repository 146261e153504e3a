"""Items become a training file that can be trusted."""
