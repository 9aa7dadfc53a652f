"""The part of TensorRT's Python API that bladescan uses, on the fake CUDA device, computed by onnxruntime."""

import ctypes
import enum
import json

import numpy as np
import onnxruntime
from cuda.bindings import runtime as cuda

__version__ = "10.99.0"


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 7


class DataType(enum.Enum):
    FLOAT = 0
    UINT8 = 8


_TYPES = {"tensor(float)": DataType.FLOAT, "tensor(uint8)": DataType.UINT8}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class Network:
    graph = b""


class Config:
    profile = None

    def __init__(self):
        self.flags = {BuilderFlag.TF32}

    def clear_flag(self, flag):
        self.flags.remove(flag)

    def add_optimization_profile(self, profile):
        self.profile = profile


class Profile:
    def set_shape(self, name, *shapes):
        self.shapes = {name: shapes}


class Builder:
    def __init__(self, log):
        self.log = log

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        assert not config.flags
        if not network.graph:
            self.log.log(ILogger.ERROR, "Network must have at least one output")
            return None
        return memoryview(json.dumps(config.profile.shapes).encode() + b"\n" + network.graph)


class OnnxParser:
    num_errors = 0

    def __init__(self, network, log):
        self.network, self.log = network, log

    def parse(self, graph):
        if b"Transpose" in graph[: graph.find(b"Cast")]:
            self.log.log(ILogger.ERROR, "Transpose: first input has type UInt8\nIn checkType")
            return False
        self.network.graph = graph
        return True


class Runtime:
    def __init__(self, log):
        self.log = log

    def deserialize_cuda_engine(self, data):
        try:
            shapes, _, graph = data.partition(b"\n")
            return Engine(json.loads(shapes), graph)
        except Exception as exc:
            self.log.log(ILogger.ERROR, f"Serialization assertion failed\n{exc}")
            return None


class Engine:
    def __init__(self, shapes, graph):
        self.shapes = shapes
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.tensors = {t.name: t for t in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_shape(self, name):
        return [n if isinstance(n, int) else -1 for n in self.tensors[name].shape]

    def get_tensor_dtype(self, name):
        return _TYPES[self.tensors[name].type]

    def get_tensor_profile_shape(self, name, index):
        assert index == 0
        return self.shapes[name]

    def create_execution_context(self):
        return Context(self)


class Context:
    def __init__(self, engine):
        self.engine, self.addresses, self.shape = engine, {}, None

    def set_input_shape(self, name, shape):
        assert name == "crops" and 1 <= shape[0] <= self.engine.shapes[name][2][0]
        self.shape = shape
        return True

    def set_tensor_address(self, name, address):
        assert address in cuda.allocated
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        n, given = self.shape, dict(self.addresses)
        cuda.enqueue(stream, lambda: self._execute(n, given))
        return True

    def _execute(self, shape, addresses):
        crops = np.ctypeslib.as_array((ctypes.c_uint8 * int(np.prod(shape))).from_address(addresses["crops"]))
        embedding = self.engine.session.run(None, {"crops": crops.reshape(shape)})[0]
        ctypes.memmove(addresses["embedding"], embedding.ctypes.data, embedding.nbytes)
