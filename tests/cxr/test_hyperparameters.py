from __future__ import annotations

import jsonschema
import pytest

from cxr.hyperparameters import SPECIFICATIONS, BadHyperparameter, Hyperparameters, read_hyperparameters


@pytest.mark.parametrize("value", ["flatten", '"flatten"', '"\\"flatten\\""', "FLATTEN"])
def test_plain_and_json_encoded_strings_mean_the_same(value: str) -> None:
    assert read_hyperparameters({"head": value}).head == "flatten"


def test_numbers_and_switches_come_as_strings_or_as_json() -> None:
    settings = read_hyperparameters({"epochs": "7", "learning_rate": '"1e-4"', "require_gpu": "True", "alpha": 0.1})
    assert (settings.epochs, settings.learning_rate, settings.require_gpu, settings.alpha) == (7, 1e-4, True, 0.1)


def test_dashes_are_taken_for_underscores() -> None:
    assert read_hyperparameters({"fine-tune-blocks": "2"}).fine_tune_blocks == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", "0"),
        ("epochs", "2.5"),
        ("alpha", "0.9"),
        ("learning_rate", "nan"),
        ("learning_rate", "fast"),
        ("head", "resnet"),
        ("side", "48"),
        ("side", "336"),
        ("side", "100"),
        ("fine_tune_blocks", "6"),
        ("require_gpu", "yes"),
        ("seed", "1e400"),
    ],
)
def test_an_out_of_range_value_is_refused_by_name_with_the_range(name: str, value: str) -> None:
    with pytest.raises(BadHyperparameter) as refusal:
        read_hyperparameters({name: value})
    text = str(refusal.value)
    assert name in text and value in text and str(SPECIFICATIONS[name]) in text


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(BadHyperparameter, match=r"epoch='3' is not a hyperparameter.*epochs"):
        read_hyperparameters({"epoch": "3"})


def test_a_name_given_twice_is_refused_whichever_way_it_is_written() -> None:
    with pytest.raises(BadHyperparameter, match="fine_tune_blocks='0' is given twice"):
        read_hyperparameters({"fine-tune-blocks": "2", "fine_tune_blocks": "0"})


def test_mixed_precision_is_refused_for_the_head_whose_features_float16_would_lose() -> None:
    with pytest.raises(BadHyperparameter, match="mixed_precision='true' is not allowed with head='flatten'"):
        read_hyperparameters({"head": "flatten", "mixed_precision": "true"})
    assert read_hyperparameters({"head": "gap", "mixed_precision": "true"}).mixed_precision == "true"


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(BadHyperparameter, match=r"alpha=.*; .*epochs="):
        read_hyperparameters({"alpha": "7", "epochs": "-1"})


def test_the_platforms_own_keys_are_left_alone() -> None:
    assert read_hyperparameters({"sagemaker_program": "job.py"}) == Hyperparameters()


def test_flatten_trains_for_one_epoch_unless_told_otherwise() -> None:
    assert read_hyperparameters({"head": "flatten"}).epochs == 1
    assert read_hyperparameters({"head": "flatten", "epochs": "4"}).epochs == 4
    assert read_hyperparameters({}).side == 224
    ours = read_hyperparameters({"head": "end_to_end"})
    assert (ours.side, ours.epochs, ours.learning_rate) == (112, 4, 1e-4)


def test_defaults_of_the_dataclass_lie_in_their_ranges() -> None:
    for name, value in Hyperparameters().as_dict().items():
        assert SPECIFICATIONS[name].read(str(value)) == value


def test_the_form_s_schema_accepts_its_own_default_and_refuses_what_the_job_refuses() -> None:
    for name, specification in SPECIFICATIONS.items():
        schema = specification.json_schema()
        assert schema["title"] and schema["description"].endswith("."), name
        jsonschema.validate(specification.form_default, schema)
        for bad in ({"no": "value"}, "resnet", 1e10):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(bad, schema)


def test_the_form_differs_from_the_job_only_where_the_table_says_so() -> None:
    differing = {name for name, one in SPECIFICATIONS.items() if one.form_default != one.default}
    assert differing == {"require_gpu"}
    assert (
        SPECIFICATIONS["epochs"]
        .json_schema()["description"]
        .endswith("Empty: 30 for gap, 1 for flatten, 4 for end_to_end.")
    )
