"""What everyone agrees on: the experiment file, identity, configurations as data, errors, the recorder."""

from hubmap_ml.spec.config_changes import Change, config_changes
from hubmap_ml.spec.config_data import decode_config, encode_config
from hubmap_ml.spec.config_files import load_config_file, merge_configs
from hubmap_ml.spec.credentials import hide_credentials_in_logs, without_credentials
from hubmap_ml.spec.errors import DoneElsewhere, InputError, Interrupted
from hubmap_ml.spec.experiment import Experiment
from hubmap_ml.spec.experiment_file import experiment_from_data, load_experiment
from hubmap_ml.spec.identity import STAGE_VERSION, StageInputs, digest_of
from hubmap_ml.spec.leak_level import LEAK_TAG, LeakLevel
from hubmap_ml.spec.logged_submission import LoggedSubmission
from hubmap_ml.spec.member_config import check as check_member_config
from hubmap_ml.spec.members import Member, Weights
from hubmap_ml.spec.overrides import apply_overrides, parse_overrides
from hubmap_ml.spec.processes import Processes
from hubmap_ml.spec.pseudo_labels import FUSION_OF_TEACHERS, PseudoLabel
from hubmap_ml.spec.recorder import NullRecorder, Recorder
from hubmap_ml.spec.refit import ALL_DATA

__all__ = [
    "ALL_DATA",
    "FUSION_OF_TEACHERS",
    "LEAK_TAG",
    "STAGE_VERSION",
    "Change",
    "DoneElsewhere",
    "Experiment",
    "InputError",
    "Interrupted",
    "LeakLevel",
    "LoggedSubmission",
    "Member",
    "NullRecorder",
    "Processes",
    "PseudoLabel",
    "Recorder",
    "StageInputs",
    "Weights",
    "apply_overrides",
    "check_member_config",
    "config_changes",
    "decode_config",
    "digest_of",
    "encode_config",
    "experiment_from_data",
    "hide_credentials_in_logs",
    "load_config_file",
    "load_experiment",
    "merge_configs",
    "parse_overrides",
    "without_credentials",
]
