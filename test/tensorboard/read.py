"""Reads event files with TensorBoard's own code, and says what it found, as JSON. Argument: the folder."""

import json
import sys

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2

accumulator = event_accumulator.EventAccumulator(
    sys.argv[1], size_guidance={name: 0 for name in ("scalars", "histograms", "images", "tensors")}
)
accumulator.Reload()
tags = accumulator.Tags()
hparams = {}
for tag, content in accumulator.summary_metadata.items():
    if content.plugin_data.plugin_name == "hparams":
        data = plugin_data_pb2.HParamsPluginData.FromString(content.plugin_data.content)
        hparams[tag] = {
            name: getattr(value, value.WhichOneof("kind"))
            for name, value in data.session_start_info.hparams.items()
        }
print(
    json.dumps(
        {
            "scalars": {
                tag: [[event.step, event.value] for event in accumulator.Scalars(tag)] for tag in tags["scalars"]
            },
            "histograms": {
                tag: [sum(event.histogram_value.bucket) for event in accumulator.Histograms(tag)]
                for tag in tags["histograms"]
            },
            "images": {
                tag: [[image.width, image.height] for image in accumulator.Images(tag)] for tag in tags["images"]
            },
            "texts": {
                tag: accumulator.Tensors(tag)[0].tensor_proto.string_val[0].decode()
                for tag in tags["tensors"]
                if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "text"
            },
            "hyperparameters": hparams.get("_hparams_/session_start_info", {}),
        }
    )
)
