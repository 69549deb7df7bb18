"""What the tests of the preview's versions look at: their states and their answers."""

import numpy as np
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

STATE = ModelVersionStatus.State


def states(models, name="adder"):
    """State and error code of each version."""
    return {
        listed.version: (STATE.Name(listed.state), code.Code.Name(listed.status.error_code))
        for listed in models.status(name).model_version_status
    }


def added(handle):
    """What the version adds to a number."""
    return handle.runner.run("serving_default", {"x": np.zeros((1, 2), "float32")})["y"][0, 0]


def answering(models, *asked):
    with models.use(*asked) as handle:
        return handle.version, added(handle)


AVAILABLE, ENDED = ("AVAILABLE", "OK"), ("END", "OK")
