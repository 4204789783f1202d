"""The mentor watches Hugging Face's Trainer: ``python examples/mentor_trainer.py`` (needs ``nastavnik[transformers]``).

A tiny classifier of sequences is made here, nothing is downloaded.
"""

from __future__ import annotations

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from nastavnik.mentor import Mentor
from nastavnik.mentor.hugging_face import MentorCallback


class Words(Dataset[dict[str, torch.Tensor]]):
    """Sequences of twelve words; the class is which of the first two words is more frequent. Bug 1: sorted by class."""

    def __init__(self, rows: int = 800) -> None:
        draw = torch.Generator().manual_seed(0)
        words = torch.randint(2, 20, (rows, 12), generator=draw)
        marks = torch.rand((rows, 12), generator=draw)
        words = torch.where(marks < 0.5, (marks < 0.5 * torch.rand((rows, 1), generator=draw)).long(), words)
        labels = ((words == 0).sum(1) > (words == 1).sum(1)).long()
        order = torch.argsort(labels, stable=True)
        self.words, self.labels = words[order], labels[order]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


class InOrder(Trainer):
    """A Trainer that takes rows as they stand."""

    def _get_train_sampler(self, *_: object) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(Words())


def main() -> Mentor:
    """Train a tiny BERT with rows in order, a frozen embedding, and a rate a thousand times too large."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)  # bug 2
    watching = MentorCallback()  # added
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=4, per_device_train_batch_size=16, learning_rate=1.0,  # bug 3
            lr_scheduler_type="constant", report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            use_cpu=True, seed=0,
        )  # fmt: skip
        InOrder(model=model, args=arguments, train_dataset=Words(), callbacks=[watching]).train()  # added
    assert watching.mentor is not None
    return watching.mentor


if __name__ == "__main__":
    main()
