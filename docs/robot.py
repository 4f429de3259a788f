"""Acts by a policy from `iqlft export RUN --to onnx`; needs NumPy and onnxruntime alone."""

import json

import numpy as np
import onnxruntime


class Policy:
    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.about = self.session.get_modelmeta().custom_metadata_map
        self.keys = [part["key"] for part in json.loads(self.about["observation"])]

    def __call__(self, observation: dict | np.ndarray) -> np.ndarray:
        """From the robot's readings, a dictionary or one array, to its command."""
        parts = [observation[key] if key else observation for key in self.keys]
        flat = np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
        (action,) = self.session.run(["action"], {"observation": flat[None]})
        return action[0]
