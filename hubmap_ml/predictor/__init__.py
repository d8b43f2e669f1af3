"""A trained and tuned predictor as a folder: JSON for what it does, safetensors for what it learned."""

from hubmap_ml.predictor.combine import combine
from hubmap_ml.predictor.folder import Manifest, network_digests, read_manifest, write_predictor
from hubmap_ml.predictor.images import ImageInput, name_images
from hubmap_ml.predictor.nodes import (
    Fusion,
    Merge,
    Network,
    Node,
    Steps,
    Stored,
    leaves_of,
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
    "Steps",
    "Stored",
    "Trial",
    "combine",
    "leaves_of",
    "name_images",
    "network_digests",
    "node_to_data",
    "nodes_of",
    "open_predictor",
    "parse_node",
    "read_manifest",
    "try_predictor",
    "write_predictor",
]
