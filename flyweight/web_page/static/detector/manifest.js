// The manifest that rides in an exported .onnx file (flyweight.core.manifest).
//
// ONNX is a protocol buffer, and onnxruntime-web does not hand out a model's metadata: the few
// fields on the way to it are read here, everything else is skipped by its length.

const METADATA_KEY = "flyweight";
const FORMAT_VERSION = 1;
// ModelProto.metadata_props; StringStringEntryProto.key and .value (onnx.proto)
const METADATA_PROPS = 14, KEY = 1, VALUE = 2;
const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;

/** The manifest in the bytes of an .onnx file; throws an Error that says what is wrong. */
export function readManifest(bytes) {
  const text = metadata(bytes).get(METADATA_KEY);
  if (text === undefined) throw new Error("the file has no Flyweight manifest");
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch {
    throw new Error("the file's manifest cannot be read");
  }
  if (!(manifest.format_version <= FORMAT_VERSION)) {
    throw new Error("the file was written by a newer Flyweight than this page");
  }
  return manifest;
}

function metadata(bytes) {
  const decoder = new TextDecoder();
  const entries = new Map();
  for (const [field, content] of fields(bytes)) {
    if (field !== METADATA_PROPS || content === null) continue;
    const parts = new Map(fields(content));
    if (!parts.get(KEY) || !parts.get(VALUE)) continue;
    entries.set(decoder.decode(parts.get(KEY)), decoder.decode(parts.get(VALUE)));
  }
  return entries;
}

/** [field number, its bytes, or null where it is a number] of each field of a message. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; at < bytes.length; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new Error("the file is cut off, or is no ONNX model");
  };
  while (at < bytes.length) {
    const tag = varint(), field = Math.floor(tag / 8), type = tag % 8;
    let length;
    if (type === VARINT) {
      varint();
      length = 0;
    } else if (type === BYTES) length = varint();
    else if (type === FIXED32) length = 4;
    else if (type === FIXED64) length = 8;
    if (length === undefined || field === 0 || at + length > bytes.length) {
      throw new Error("the file is cut off, or is no ONNX model");
    }
    yield [field, type === BYTES ? bytes.subarray(at, at + length) : null];
    at += length;
  }
}
