"""Lowering of formats whose codes have scales and zero points: into the affine form, and from there into integer layers."""
