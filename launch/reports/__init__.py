"""Tables, curves, pictures and pages made from runs and results."""
