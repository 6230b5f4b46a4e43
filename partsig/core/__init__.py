"""The method, for any rank: tensors in, tensors out. Imports torch and partsig.errors only."""
