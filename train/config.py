"""The configuration of a training run: one complete YAML file and overrides, checked once.

Types are strict and nothing is inherited or interpolated, so that a file says all there is to
say, and a typo is an error that names the right key.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML

from detente.errors import ConfigError
from detente.states import resolve

CorpusName = Literal[
    "own", "multilingual", "official", "series", "newsmtsc", "plv", "dse2qa", "multicoped", "umuc",
    "rusentne", "file",
]  # fmt: skip
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
FOLDS: Final = 5
"""Of a cross-validation."""

Share = Annotated[float, Field(ge=0, le=1)]
# YAML has neither paths nor tuples: these two are converted, nothing else is.
Folder = Annotated[Path, Field(strict=False)]


class Section(BaseModel):
    """What every part of a configuration is: strict, closed and not to be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Run(Section):
    """Which run this is.

    Attributes:
        name: The run's name in the card and in tables.
        dir: The folder that will hold the result; it must not exist, or be an unfinished run.
        seed: Seeds the classifier head, the order of the data and the augmentation.
        trackers: Services that are told the loss and the validation metrics while it trains;
            each needs its own package.
    """

    name: str = Field(min_length=1)
    dir: Folder
    seed: int = Field(0, ge=0, lt=2**32)
    trackers: tuple[Tracker, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _dir_has_a_name(self) -> Run:
        if not self.dir.name or self.dir.name == "..":
            raise ValueError("run.dir must name a folder of its own")
        return self


class HoldOut(Section):
    """What a corpus is tested on in place of a share of its documents.

    Attributes:
        period: The first and the last year, both included.
        source: The state that speaks, by code, name or alias; it becomes its code. Former states
            are states of their own: Russia is not the Soviet Union.
        fold: One fifth of the groups, from 0 to 4: five runs report on every row once.
        debate: A debate of the Security Council by its number, such as ``SPV.7138``.
    """

    period: tuple[int, int] | None = Field(None, strict=False)
    source: str | None = None
    fold: int | None = Field(None, ge=0, lt=FOLDS)
    debate: str | None = Field(None, min_length=1)

    @field_validator("source")
    @classmethod
    def _source_is_known(cls, source: str | None) -> str | None:
        found = None if source is None else resolve(source)
        if source is not None and found is None:
            raise ValueError("not a state that the gazetteer knows")
        return found.code if found else None

    @model_validator(mode="after")
    def _is_one_thing(self) -> HoldOut:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("hold_out takes either a period, a source, a fold or a debate")
        if self.period is not None and self.period[0] > self.period[1]:
            raise ValueError("the first year of a period must not come after the last")
        return self

    def __str__(self) -> str:
        """Returns a name for the split, such as ``period-2017-2022`` or ``source-RUS``."""
        ((kind, value),) = self.model_dump(exclude_none=True).items()
        return f"{kind}-{'-'.join(map(str, value)) if kind == 'period' else value}"


_HOLD_OUTS: Final[dict[CorpusName, tuple[str, ...]]] = {
    "official": ("period", "source", "fold"),
    "plv": ("fold",),
    "umuc": ("debate",),
}


class Corpus(Section):
    """One corpus of the mixture.

    Attributes:
        name: An adapter of ``train/corpora/``; ``file`` reads a table of your own.
        path: The file, for ``file``; the soft labels, for ``series`` and, if wanted, for
            ``multilingual``.
        train: Learn from this corpus; without it, it is only reported on.
        test: Report on this corpus's test split.
        weight: Factor for its training rows in the loss.
        only: Keep the rows that have these values in these columns, such as
            ``{entity_tag: COUNTRY}`` of ``rusentne`` or ``{lang: ru}`` of ``multilingual``.
        hold_out: Test on a period, a source or a fold and train on the rest, for ``official``;
            on a fold, for ``plv``; on a debate, for ``umuc``.
    """

    name: CorpusName
    path: Folder | None = None
    train: bool = True
    test: bool = True
    weight: float = Field(1.0, gt=0)
    only: dict[str, str] = Field(default_factory=dict)
    hold_out: HoldOut | None = None

    @model_validator(mode="after")
    def _path_goes_with_file(self) -> Corpus:
        needed, allowed = ("file", "series"), ("file", "series", "multilingual")
        if self.name in needed if self.path is None else self.name not in allowed:
            raise ValueError("a path goes with `name: file`, `series` or `multilingual`")
        return self

    @model_validator(mode="after")
    def _is_for_something(self) -> Corpus:
        if not self.train and not self.test:
            raise ValueError("a corpus is learned from, reported on, or both")
        return self

    @model_validator(mode="after")
    def _hold_out_goes_with_corpus(self) -> Corpus:
        for kind in self.hold_out.model_dump(exclude_none=True) if self.hold_out else ():
            if kind not in _HOLD_OUTS.get(self.name, ()):
                known = ", ".join(f"{name} by {' or '.join(k)}" for name, k in _HOLD_OUTS.items())
                raise ValueError(f"hold_out goes with {known}, and no other")
        return self


class Data(Section):
    """What is trained on.

    Attributes:
        root: The folder of the public corpora (``scripts.fetch_corpora`` fetches them).
        corpora: The mixture; each corpus brings its own splits.
        source_dropout: Share of training rows, drawn anew each epoch, whose source is
            withheld, so that the model also works without one.
        absent_targets: Share of the training rows whose target the sentence names, drawn anew each
            epoch, that ask for a state it does not name. Their tone is neutral by rule 1 of the
            codebook, and the model has to find its target in the sentence rather than hear the
            mood of it.
        target_names: Share of the training rows, drawn anew each epoch, whose pair calls the target
            by another of its names (code, alias, adjective, demonym), so that a name by itself
            decides less. For a state, prediction always writes its canonical name, whatever it
            was called by, so that this cannot make aliases work better there: what it can help
            is free text that the gazetteer does not know, pairs that others write without
            detente, and a model that leans on the name.
        contrast_weight: Weight of a training row whose sentence also stands with another label
            toward another state: the rows that only their target tells apart.
        confidence_weight: Weigh a training row by 0.5 + 0.5 times its column ``confidence``, where
            it has one in [0, 1].
        withhold_target: Train the target-blind twin: every target reads "a state".
    """

    root: Folder | None = None
    corpora: tuple[Corpus, ...] = Field(min_length=1, strict=False)
    source_dropout: Share = 0.3
    absent_targets: Share = 0.0
    target_names: Share = 0.0
    contrast_weight: float = Field(1.0, gt=0)
    confidence_weight: bool = False
    withhold_target: bool = False


class Base(Section):
    """Which encoder to start from.

    Attributes:
        name: A name in :mod:`train.base_models`, a local folder, or a hub id.
        layers: Which of its layers to keep, counted from 1; all of them if absent. Evenly spaced
            ones with the last, such as 2, 4 and 6 of six, make a faster student.
        max_tokens: The longest pair in tokens; longer sentences are cut around the target.
    """

    name: str
    layers: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, min_length=1, strict=False)
    max_tokens: int = Field(256, ge=16, le=512)

    @field_validator("layers")
    @classmethod
    def _layers_rise(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and any(b <= a for a, b in pairwise(layers)):
            raise ValueError("layers must be named once each, from the lowest up")
        return layers


class Lora(Section):
    """Low-rank adapters in place of full fine-tuning (Hu et al., ICLR 2022).

    Every linear layer of the encoder gets one and keeps its own weights; the head is trained
    whole. The adapters are merged into the weights before anything is saved.

    Attributes:
        rank: Of each adapter: its parameters are ``rank * (inputs + outputs)``.
        alpha: The adapter's output is scaled by ``alpha / rank``.
        dropout: Dropout before each adapter.
    """

    rank: int = Field(8, ge=1)
    alpha: int = Field(16, ge=1)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Fit(Section):
    """How to train.

    Attributes:
        epochs: Passes over the training rows, at most.
        batch_size: Rows a step on each device.
        gradient_accumulation: Steps whose gradients are added before an update.
        learning_rate: The peak, reached after the warm-up, falling to zero in a half cosine.
        warmup: Share of the updates spent warming up.
        weight_decay: AdamW's decay, on matrices only.
        label_smoothing: Share of a row's weight spread evenly over the labels.
        class_weights: ``balanced`` weighs labels by their inverse frequency.
        patience: Evaluations without a better validation macro-F1 before stopping.
        dropout: Dropout in a BERT-like encoder, in place of its own; attention has none.
        embeddings_rate: Factor for the learning rate of the word embeddings; 0 keeps them as they
            are. They are half of a small encoder's parameters, which on few rows learn rows
            rather than words, and leave behind the words that stand in none.
        mention_loss: Weight of two questions asked in training beside the sentence's tone: which
            words name the target, and the tone at those words; 0 does not ask them.
        mention_layer: The layer of the encoder that answers the first, counted from 1 among those
            that are kept: two thirds of the way up, so that the layers above can use the answer.
        r_drop: Weight of how much two passes over a row with other dropout disagree (R-Drop, Liang
            et al., NeurIPS 2021); 0 makes one pass. It steadies fine-tuning on few and noisy rows
            there; here it has not been measured. An update costs twice as much, and without
            ``dropout`` it does nothing.
        precision: ``auto`` is bf16 where the device computes in it, which processors with
            AVX-512 BF16 or AMX do as well as GPUs, at 1.7 times the speed; else fp32.
        lora: Train low-rank adapters instead of the weights (extra ``lora``).
    """

    epochs: float = Field(4, gt=0)
    batch_size: int = Field(16, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(1e-4, gt=0, lt=1)
    warmup: Share = 0.1
    weight_decay: float = Field(0.01, ge=0)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    patience: int = Field(3, ge=1)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    embeddings_rate: Share = 1.0
    mention_loss: float = Field(0.0, ge=0)
    mention_layer: int = Field(4, ge=1)
    r_drop: float = Field(0.0, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    lora: Lora | None = None


class Evaluate(Section):
    """What to report.

    Attributes:
        bootstrap: Resamples for the 95 % intervals.
        baselines: What stands beside the model; ``target_blind`` trains it a second time.
        contracts: Cases of behavioural contracts to hold the model to, ``data/contracts.jsonl``
            or a file of your own.
        representative: The corpora most like the statements to come. Their validation rows
            calibrate the model, and with their test rows count how it errs, for the analysis of
            shifts. All if absent.
    """

    bootstrap: int = Field(1000, ge=100)
    baselines: tuple[Literal["majority", "lexicon", "tfidf", "target_blind"], ...] = Field(
        ("majority", "tfidf"), strict=False
    )
    contracts: Folder | None = None
    representative: tuple[str, ...] | None = Field(None, strict=False)


class Config(Section):
    """A whole run."""

    run: Run
    data: Data
    base: Base
    fit: Fit = Fit()
    evaluate: Evaluate = Evaluate()

    def to_yaml(self) -> dict[str, Any]:
        """Returns the resolved configuration as plain values that YAML can hold."""
        return self.model_dump(mode="json")


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration and applies overrides such as ``fit.epochs=2``.

    Args:
        path: A YAML 1.2 file.
        overrides: ``section.key=value``, the value written as in YAML; keys of keys as in
            ``fit.lora.rank=4``.

    Raises:
        ConfigError: The file cannot be read, an override is not of that form, a key is unknown
            (the message suggests the right one), or a value is not allowed.
    """
    tree = read_yaml(path)
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise explain(error, str(path)) from None


_yaml: Final = YAML(typ="safe", pure=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML 1.2 file of sections.

    Raises:
        ConfigError: It cannot be read, or is not a mapping.
    """
    try:
        tree = _yaml.load(path.read_text("utf-8"))
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ConfigError(
            "no such file",
            where=str(path),
            fix=f"There are: {', '.join(near)}" if near else None,
        ) from None
    except Exception as error:  # of a wrong tag ruamel.yaml raises whatever it runs into
        raise ConfigError(f"cannot be read as YAML ({error})", where=str(path)) from error
    if not isinstance(tree, dict):
        raise ConfigError("holds no sections", where=str(path), got=tree)
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    keys = name.split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigError(
            "not an override", got=override, expected="section.key=value, such as fit.epochs=2"
        )
    section = tree
    for depth, key in enumerate(keys[:-1], 1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            raise ConfigError("not a section", where=".".join(keys[:depth]), got=section)
    try:
        section[keys[-1]] = _yaml.load(value)
    except Exception as error:  # as above
        raise ConfigError(f"the value is not YAML ({error})", where=name, got=value) from error


def explain(error: ValidationError, where: str, model: type[BaseModel] = Config) -> ConfigError:
    """Turns the first of pydantic's complaints into an error of ours, with the key's place.

    Args:
        error: What pydantic says.
        where: The file, or the part of it, that was checked.
        model: What it was checked against; it knows the right keys.
    """
    first = error.errors()[0]
    place = f"{where}: {'.'.join(map(str, first['loc']))}".removesuffix(": ")
    more = f" ({error.error_count() - 1} more errors)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_beside(first["loc"], model)
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        return ConfigError(
            f"unknown key{more}",
            where=place,
            expected=f"one of {', '.join(known)}",
            fix=f"Did you mean {near[0]!r}?" if near else None,
        )
    got = None if first["type"] == "missing" else first["input"]
    message = first["msg"][0].lower() + first["msg"][1:]
    return ConfigError(f"{message}{more}", where=place, got=got)


def _keys_beside(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Returns the keys that are allowed where an unknown one stood."""
    for key in location[:-1]:
        if isinstance(key, int):
            continue
        annotation = model.model_fields[key].annotation
        candidates = (annotation, *get_args(annotation))
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
