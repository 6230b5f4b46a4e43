"""The whole way on data that is at hand, one module per demonstration; they only call verbs."""
