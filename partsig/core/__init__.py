"""The method, for any rank: tensors in, tensors out. Imports torch and partsig.errors only.

Shapes, everywhere: B batch, C channels, D rank (number of axes), L extent of an axis in samples,
p extent of a patch in samples, N patches, P pairs, E width. Axes are (row, column) and so on, first
axis first. Positions are the centres of patches in samples: sample i covers [i, i + 1), so the
first patch of a grid of patches of p samples lies at p / 2.
"""
