#!/usr/bin/env python3
"""Compares our P4Runtime messages with the published ones, byte for byte.

Takes two sets of descriptors, each a file holding a serialized FileDescriptorSet (as `protoc --descriptor_set_out
--include_imports` writes it) or a directory of modules that protoc generated for Python (as in PyPI's `p4runtime`; only
read, never imported, since such modules refuse to load beside a newer protobuf). Source information, comments, options and
JSON names are left out of the comparison: everything else of every file in FILES must be equal.

    check_descriptors.py ours.descriptors .venv/lib/python3.11/site-packages

Needs only `protobuf`. Exit status 0 if all are equal, 1 if not, 2 if a set cannot be read.
"""

import argparse
import ast
import difflib
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

FILES = [
    "p4/config/v1/p4types.proto",
    "p4/config/v1/p4info.proto",
    "p4/v1/p4data.proto",
    "p4/v1/p4runtime.proto",
]


class Unreadable(Exception):
    """A set of descriptors that is not what it should be; the message says what to do."""


def from_set(path):
    """The files of a serialized FileDescriptorSet, by name."""
    try:
        found = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    except DecodeError as error:
        raise Unreadable(f"{path} is not a serialized FileDescriptorSet ({error})") from error
    return {file.name: file for file in found.file}


def from_modules(directory):
    """The files whose generated Python modules lie below a directory, by name."""
    files = {}
    for name in FILES:
        module = directory / (name.removesuffix(".proto") + "_pb2.py")
        if not module.exists():
            raise Unreadable(f"{module} does not exist: give the directory that holds the package p4")
        for node in ast.walk(ast.parse(module.read_text())):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, bytes)):
                continue
            try:
                file = descriptor_pb2.FileDescriptorProto.FromString(node.value)
            except DecodeError:
                continue
            # Generated modules hold other byte strings too, of serialized options: none of them reads as a named file.
            if file.name == name:
                files[name] = file
        if name not in files:
            raise Unreadable(f"{module} holds no descriptor of {name}")
    return files


def strip(message):
    """Removes, at every depth, what is not compared."""
    for field, value in message.ListFields():
        if field.name in ("options", "json_name", "source_code_info"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for each in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
                strip(each)


def read(path):
    """The compared files of one set, stripped."""
    files = from_modules(path) if path.is_dir() else from_set(path)
    missing = [name for name in FILES if name not in files]
    if missing:
        raise Unreadable(f"{path} lacks {', '.join(missing)}")
    for name in FILES:
        strip(files[name])
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours", type=Path, help="descriptor set, or directory of generated modules")
    parser.add_argument("published", type=Path, help="the same, of the published interface")
    options = parser.parse_args()
    try:
        ours, published = read(options.ours), read(options.published)
    except (OSError, SyntaxError, Unreadable) as error:
        print(f"check_descriptors: {error}", file=sys.stderr)
        return 2

    differing = 0
    for name in FILES:
        if ours[name].SerializeToString(deterministic=True) == published[name].SerializeToString(deterministic=True):
            continue
        differing += 1
        print(f"{name} differs (- published, + ours):")
        lines = difflib.unified_diff(str(published[name]).splitlines(), str(ours[name]).splitlines(), lineterm="", n=4)
        for line in list(lines)[2:]:
            print(f"    {line}")
    print(f"descriptors: {len(FILES) - differing} passed, {differing} failed")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
