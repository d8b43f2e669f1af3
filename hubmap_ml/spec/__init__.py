"""What everyone agrees on: the experiment file, identity, configurations as data, errors, the recorder."""

from hubmap_ml.spec.config_data import decode_config, encode_config
from hubmap_ml.spec.config_files import load_config_file, merge_configs
from hubmap_ml.spec.credentials import hide_credentials_in_logs, without_credentials
from hubmap_ml.spec.errors import InputError
from hubmap_ml.spec.experiment import Experiment, Member, load_experiment
from hubmap_ml.spec.identity import STAGE_VERSION, StageInputs, digest_of
from hubmap_ml.spec.member_config import check as check_member_config
from hubmap_ml.spec.overrides import apply_overrides, parse_overrides
from hubmap_ml.spec.recorder import NullRecorder, Recorder

__all__ = [
    "STAGE_VERSION",
    "Experiment",
    "InputError",
    "Member",
    "NullRecorder",
    "Recorder",
    "StageInputs",
    "apply_overrides",
    "check_member_config",
    "decode_config",
    "digest_of",
    "encode_config",
    "hide_credentials_in_logs",
    "load_config_file",
    "load_experiment",
    "merge_configs",
    "parse_overrides",
    "without_credentials",
]
