"""Kernels generated from a neuron's step, and products that touch only the spikes of their input."""
