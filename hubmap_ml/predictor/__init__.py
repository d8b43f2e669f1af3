"""A trained and tuned predictor as a folder: JSON for what it does, safetensors for what it learned."""

from hubmap_ml.predictor.combine import combine, combine_agreed
from hubmap_ml.predictor.folder import Manifest, network_digests, read_manifest, write_predictor
from hubmap_ml.predictor.images import ImageInput, name_images
from hubmap_ml.predictor.nodes import (
    Fusion,
    Merge,
    Network,
    Node,
    Scores,
    Steps,
    Stored,
    leaves_of,
    members_of,
    names_of_views,
    node_to_data,
    nodes_of,
)
from hubmap_ml.predictor.parsing import parse_node
from hubmap_ml.predictor.predictor import Predictor, open_predictor
from hubmap_ml.predictor.trial import Trial, try_predictor

__all__ = [
    "Fusion",
    "ImageInput",
    "Manifest",
    "Merge",
    "Network",
    "Node",
    "Predictor",
    "Scores",
    "Steps",
    "Stored",
    "Trial",
    "combine",
    "combine_agreed",
    "leaves_of",
    "members_of",
    "name_images",
    "names_of_views",
    "network_digests",
    "node_to_data",
    "nodes_of",
    "open_predictor",
    "parse_node",
    "read_manifest",
    "try_predictor",
    "write_predictor",
]
