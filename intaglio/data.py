"""Data sets, mini-batches and accuracy."""

from intaglio.array.data import DataLoader, Dataset, Subset, TensorDataset, accuracy, random_split

__all__ = ["DataLoader", "Dataset", "Subset", "TensorDataset", "accuracy", "random_split"]
