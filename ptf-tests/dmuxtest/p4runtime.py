"""A small P4Runtime client: one stream, one primary, per-update errors as exceptions."""

import queue
import threading

import grpc
from google.rpc import status_pb2
from p4.v1 import p4runtime_pb2, p4runtime_pb2_grpc

RPC_TIMEOUT = 20
STREAM_TIMEOUT = 20
# Status details grow with the batch (P4RUNTIME.md).
MAX_METADATA = 8192 + 100 * 4096


class WriteError(Exception):
    """A Write that failed: for each update that did, its index, canonical code and message."""

    def __init__(self, code, message, updates, errors):
        self.code = code
        self.errors = {i: (grpc_code(e.canonical_code), e.message) for i, e in enumerate(errors) if e.canonical_code}
        lines = [f"Write failed: {code.name}: {message}"]
        for index, (name, text) in self.errors.items():
            lines.append(f"  update {index}: {name}: {text}\n    {str(updates[index]).strip()}")
        if not self.errors:
            lines += [str(u).strip() for u in updates]
        super().__init__("\n".join(lines))


def grpc_code(number: int) -> str:
    return next((c.name for c in grpc.StatusCode if c.value[0] == number), str(number))


class Client:
    def __init__(self, address: str, device_id: int, election_id: int):
        self.device_id = device_id
        self.election_id = p4runtime_pb2.Uint128(high=0, low=election_id)
        self.channel = grpc.insecure_channel(address, options=[
            ("grpc.max_metadata_size", MAX_METADATA), ("grpc.max_receive_message_length", 64 << 20)])
        grpc.channel_ready_future(self.channel).result(timeout=STREAM_TIMEOUT)
        self.stub = p4runtime_pb2_grpc.P4RuntimeStub(self.channel)
        self.packets = queue.Queue()
        self.digests = queue.Queue()
        self.arbitration = queue.Queue()
        self._requests = queue.Queue()
        self._stream = self.stub.StreamChannel(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read_stream, daemon=True)
        self._reader.start()

    def _read_stream(self):
        try:
            for message in self._stream:
                if message.HasField("packet"):
                    self.packets.put(message.packet)
                elif message.HasField("digest"):
                    self.digests.put(message.digest)
                elif message.HasField("arbitration"):
                    self.arbitration.put(message.arbitration)
        except grpc.RpcError as error:
            self.arbitration.put(error)

    def become_primary(self):
        request = p4runtime_pb2.StreamMessageRequest()
        request.arbitration.device_id = self.device_id
        request.arbitration.election_id.CopyFrom(self.election_id)
        self._requests.put(request)
        answer = self.arbitration.get(timeout=STREAM_TIMEOUT)
        if isinstance(answer, Exception):
            raise answer
        if answer.status.code != grpc.StatusCode.OK.value[0]:
            raise RuntimeError(f"not primary: {answer.status.message or grpc_code(answer.status.code)}")

    def set_pipeline(self, p4info, device_config: bytes):
        request = p4runtime_pb2.SetForwardingPipelineConfigRequest(
            device_id=self.device_id, election_id=self.election_id,
            action=p4runtime_pb2.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT)
        request.config.p4info.CopyFrom(p4info)
        request.config.p4_device_config = device_config
        request.config.cookie.cookie = 1
        self.stub.SetForwardingPipelineConfig(request, timeout=RPC_TIMEOUT)

    def write(self, updates: list):
        request = p4runtime_pb2.WriteRequest(device_id=self.device_id, election_id=self.election_id, updates=updates)
        try:
            self.stub.Write(request, timeout=RPC_TIMEOUT)
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            errors = []
            for any_ in status_pb2.Status.FromString(details).details:
                item = p4runtime_pb2.Error()
                if any_.Unpack(item):
                    errors.append(item)
            raise WriteError(error.code(), error.details(), updates, errors) from error

    def read(self, *entities) -> list:
        request = p4runtime_pb2.ReadRequest(device_id=self.device_id, entities=entities)
        return [e for response in self.stub.Read(request, timeout=RPC_TIMEOUT) for e in response.entities]

    def packet_out(self, payload: bytes, metadata):
        request = p4runtime_pb2.StreamMessageRequest()
        request.packet.payload = payload
        request.packet.metadata.extend(metadata)
        self._requests.put(request)

    def acknowledge(self, digest):
        request = p4runtime_pb2.StreamMessageRequest()
        request.digest_ack.digest_id = digest.digest_id
        request.digest_ack.list_id = digest.list_id
        self._requests.put(request)

    def close(self):
        self._requests.put(None)
        self._stream.cancel()
        self.channel.close()
        self._reader.join(timeout=STREAM_TIMEOUT)
