"""What a layer computes: SUGAR, BAReLU and the surrogates, each as a function and as a module."""
