"""A small statistical learner: a softmax network over the words of a text."""
