"""Configurations: what wins, and what a mistake is told."""

import pickle
from dataclasses import dataclass, field

import pytest
import yaml

from partsig import config, config_text
from partsig.errors import ConfigError, RangeError, check_range
from partsig.verbs.config import _class_of


@dataclass(frozen=True, kw_only=True)
class Optim:
    """A section."""

    lr: float = 1e-3
    warmup: int = 10
    betas: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ConfigError(f"optim.lr is {self.lr}; it must be above 0.")


@dataclass(frozen=True, kw_only=True)
class Root:
    """A configuration with a section."""

    seed: int = 0
    name: str | None = "part"
    channels: tuple[str, ...] = ("C3",)
    optim: Optim = field(default_factory=Optim)


def compose(*overrides, path=None):
    return config.compose(Root, "pretrain", path, overrides)


@pytest.fixture
def file(tmp_path):
    """A function that writes a YAML file and returns its path."""

    def write(text: str | bytes):
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_defaults_file_overrides_in_that_order(file):
    path = file("verb: pretrain\nseed: 3\noptim:\n  lr: 0.5\n  warmup: 4\n")
    found = compose("optim.warmup=7", "optim.warmup=8", "name=mine", "seed=9", path=path)
    assert found == Root(seed=9, name="mine", optim=Optim(lr=0.5, warmup=8))
    assert compose(path=path).seed == 3


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_changes_nothing(file, text):
    assert compose(path=file(text)) == Root()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=4", Root(seed=4)),
        (" seed = 4", Root(seed=4)),
        ("name=null", Root(name=None)),
        ("name='null'", Root(name="null")),
        ("name=a=b", Root(name="a=b")),
        ("channels=[C3, C4-M1]", Root(channels=("C3", "C4-M1"))),
        ("optim.lr=1e-4", Root(optim=Optim(lr=1e-4))),
        ("optim.lr=0.5", Root(optim=Optim(lr=0.5))),
        ("optim={lr: 2, warmup: 1}", Root(optim=Optim(lr=2, warmup=1))),
        ("optim.betas=[0.8, 0.9]", Root(optim=Optim(betas=(0.8, 0.9)))),
    ],
)
def test_forms_of_set(override, expected):
    assert compose(override) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("08", 8),
        ("+1_000", 1000),
        ("-7", -7),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("1.5e-3", 0.0015),
        ("-.inf", float("-inf")),
        ("[1, 02]", [1, 2]),
        ("{5: W, 04: REM, on: N1}", {"5": "W", "04": "REM", "on": "N1"}),
        ("null", None),
        ("'010'", "010"),
    ],
)
def test_values_are_read_as_people_write_them(text, value, file):
    assert dict(config_text.pairs([f"key={text}"])) == {"key": value}
    assert config_text.read(file(f"key: {text}\n")) == {"key": value}


def test_a_mapping_works_as_the_texts_do():
    found = config.compose(Root, "pretrain", None, {"optim.lr": 0.5, "channels": ("O1",)})
    assert found == Root(channels=("O1",), optim=Optim(lr=0.5))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sed=1"], "unknown key 'sed'; nearest is 'seed'"),
        (["optim.lrr=1"], "unknown key 'optim.lrr'; nearest is 'optim.lr'"),
        (["lr=1"], "unknown key 'lr'; nearest is 'optim.lr'"),
        (
            ["xyzzy=1"],
            "unknown key 'xyzzy'; there are seed, name, channels, optim.lr, optim.warmup",
        ),
        (["seed=many"], "seed: input should be a valid integer"),
        (
            ["seed=1.5"],
            "seed: input should be a valid integer, got a number with a fractional part",
        ),
        (["channels=C3"], "channels: it should be a list such as [A, B], got 'C3'"),
        (["optim.betas=[1]"], "optim.betas"),
        (["optim=3"], "optim is a section; set its keys, such as 'optim.lr'"),
        (["optim.lr=-1"], "optim.lr is -1.0; it must be above 0."),
        (["seed"], "--set 'seed': expected section.key=value."),
        (["=3"], "--set '=3': expected section.key=value."),
        (["seed=[1"], "--set 'seed=[1': cannot read the value '[1'."),
        (["seed=1", "seed.x=3"], "--set seed.x: seed is a value, not a section."),
    ],
)
def test_a_mistake_in_an_override(overrides, message):
    with pytest.raises(ConfigError) as caught:
        compose(*overrides)
    assert message in str(caught.value)


def test_what_is_out_of_range_says_the_range_also_to_another_process():
    with pytest.raises(
        RangeError, match=r"^fit\.keep is 9; it must be between 1 and 3\.$"
    ) as caught:
        check_range("fit.keep", 9, 1, 3)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert str(error) == "fit.keep is 9; it must be between 1 and 3."
        assert (error.setting, error.low, error.high, error.above) == ("fit.keep", 1, 3, False)


def test_all_mistakes_at_once():
    with pytest.raises(ConfigError) as caught:
        compose("sed=1", "optim.warmup=soon", "channels=3", "optim.lrr=1")
    sentences = str(caught.value).split("; ")
    assert [s for s in sentences if s.startswith("unknown key")] == [
        "unknown key 'optim.lrr'",
        "unknown key 'sed'",
    ]
    assert sum("optim.warmup: " in s or "channels: " in s for s in sentences) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verb: finetune\n", r"mine\.yaml is for `partsig finetune`, not for pretrain\."),
        ("- 1\n- 2\n", r"mine\.yaml must hold key: value lines\."),
        ("just words", r"mine\.yaml must hold key: value lines\."),
        ("a: [1\nb: 2\n", r"mine\.yaml is not YAML: while parsing a flow sequence .* line 1"),
        (b"name: \xff\xfe\n", r"mine\.yaml is not a text file in UTF-8"),
        ("1: 2\n", r"has the key 1, which is no name"),
        ("optim: 3\n", r"optim is a section; set its keys, such as 'optim\.lr'"),
        ("seed: !!float abc\n", r"mine\.yaml is not YAML: a value is not what its tag says"),
        ("seed: !!int ''\n", r"mine\.yaml is not YAML: a number is none, or has too many"),
        ("seed: !!bool x\n", r"mine\.yaml is not YAML: a value is not what its tag says"),
        ("seed: !!timestamp x\n", r"could not determine a constructor for the tag .*timestamp"),
        ("seed: !!set {a, b}\n", "could not determine a constructor for the tag .*set"),
        ("seed: !!binary YQ==\n", "could not determine a constructor for the tag .*binary"),
        ("seed: !!python/name:os.system\n", "could not determine a constructor for the tag"),
        ("seed: 2001-02-30\n", r"seed: input should be a valid integer.*got '2001-02-30'"),
        (f"seed: {'9' * 5000}\n", "a number is none, or has too many digits"),
        (f"seed: {'9' * 5000}.0e1\n", "seed: unable to parse input string as an integer"),
        ("seed: {[1]: 2}\n", "unhashable key"),
    ],
)
def test_a_mistake_in_a_file(file, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        compose(path=file(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["!!float abc", "!!int ''", "!!bool x", "!!set {a}", "[1, &a"])
def test_a_value_that_is_none_of_its_kind(value):
    with pytest.raises(ConfigError, match="cannot read the value"):
        compose(f"seed={value}")


def test_a_date_is_the_text_that_it_is_written_as():
    assert dict(config_text.pairs(["aliases.a=2001-02-30"])) == {"aliases.a": "2001-02-30"}
    assert dict(config_text.pairs(["aliases.a=2001-02-03"])) == {"aliases.a": "2001-02-03"}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration file .*none\.yaml\."):
        compose(path=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("verb", "modality", "override", "message"),
    [
        ("pretrain", "eeg", "window_s=inf", "window_s is inf; it must be at least 1, and finite."),
        ("pretrain", "eeg", "optim.lr=.inf", "optim.lr is inf; it must be at least 0, and finite."),
        ("pretrain", "eeg", "optim.lr=.nan", "optim.lr is nan; it must be at least 0."),
        (
            "finetune",
            "image",
            "optim.betas=[2,3]",
            "optim.betas is 2.0; it must be between 0 and 0.999999.",
        ),
        ("finetune", "eeg", "optim.betas=[.9,-.inf]", "optim.betas is -inf; it must be between"),
        ("finetune", "eeg", "fit.epochs=0x10", "fit.epochs: input should be a valid integer"),
        (
            "preprocess",
            "eeg",
            "hypnogram.offset_s=.nan",
            "hypnogram.offset_s is nan; it must be a finite number of seconds.",
        ),
        (
            "stage",
            "eeg",
            "hypnogram.offset_s={n1: 2, n2: .inf}",
            "hypnogram.offset_s.n2 is inf; it must be a finite number of seconds.",
        ),
    ],
)
def test_what_is_no_number_of_this_world_is_told_by_name_and_range(
    verb, modality, override, message
):
    with pytest.raises(ConfigError) as caught:
        config.compose(_class_of(verb, modality), verb, None, [override])
    assert message in str(caught.value)


def test_labels_that_are_numbers_may_be_written_so():
    cls = _class_of("preprocess", "eeg")
    made = config.compose(cls, "preprocess", None, ["hypnogram.stages={5: W, 4: REM}"])
    assert made.hypnogram.stages == {"5": "W", "4": "REM"}
    assert config.compose(cls, "preprocess", None, ["hypnogram.stages.5=W"]).hypnogram.stages == {
        "5": "W"
    }


def test_a_name_that_is_not_shipped():
    with pytest.raises(
        ConfigError,
        match=r"no configuration 'parts'; nearest is 'part'; there are .*ends in \.yaml",
    ):
        compose(path="parts")


def test_a_configuration_survives_yaml(file):
    changed = Root(seed=5, name=None, channels=("µ", "C4"), optim=Optim(lr=0.25))
    text = config.to_yaml(changed)
    assert yaml.safe_load(text) == config.to_dict(changed)
    assert compose(path=file(text)) == changed


def test_differences_name_every_key():
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "gone": 0}
    new = {"a": 1, "b": {"c": 3, "d": [1, 2]}, "new": None, "b2": {"x": 1}}
    assert config.differences(old, new) == [
        "b.c: 2, now 3",
        "b.d: [1], now [1, 2]",
        "gone: 0, now None",
        "b2: None, now {'x': 1}",
    ]
    assert config.differences(old, old) == []


def test_a_value_where_a_list_or_a_section_belongs_is_told_how():
    from partsig.data.signals.preprocessing import PreprocessConfig
    from partsig.modalities.signal_settings import SignalPretrainConfig

    with pytest.raises(
        ConfigError, match=r"channels: it should be a list such as \[A, B\], got 'O"
    ):
        config.compose(PreprocessConfig, "preprocess", None, ["channels=O2-M1"])
    with pytest.raises(
        ConfigError, match=r"objective is a section; set its keys, such as 'objecti"
    ):
        config.compose(SignalPretrainConfig, "pretrain", None, ["objective=3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lr: 1}\noptim: {lr: 2}\n", "is not YAML: optim stands twice"),
        ("optim: {lr: 1, lr: 2}\n", "lr stands twice"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"aliases \(\*name\) are not read"),
        ("a: " + "[" * 500 + "]" * 500, "nested more than 20 deep"),
        ("a: " + "9" * 10_000, "a number is none, or has too many digits"),
        ("a: 1\n" + "#" * 1_000_001, "larger than 1,000,000 bytes"),
        ("1: 2\n", "has the key 1, which is no name of a setting"),
        ("optim.lr: 2\n", r"write optim\.lr as `optim:`, and `lr: …` below it"),
    ],
)
def test_what_a_file_cannot_mean_is_told(file, text, message):
    with pytest.raises(ConfigError, match=message):
        compose(path=file(text))
