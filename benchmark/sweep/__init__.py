"""Many runs: a grid of what is asked for, its cells, what the records say of them, and carrying them out."""
