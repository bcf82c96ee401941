"""How an activation is computed. ``composite`` is the definition: pure PyTorch, right under every transform."""
