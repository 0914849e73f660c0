// What a model file says of itself, read from its bytes: onnxruntime for JavaScript does not show a model's metadata.
//
// An ONNX file is one protobuf message, a ModelProto: a row of fields, each a tag (number and wire type) and a value.
// Field 14 is metadata_props, once for each entry: a message of a key (field 1) and a value (field 2). The keys of this
// project have JSON for values.

const METADATA_PROPS = 14;
const LENGTH_DELIMITED = 2; // wire type of bytes, strings and messages

/** Return {labels, input, accuracy, ...} of an ONNX file's bytes. */
export function readMetadata(content) {
  const metadata = {};
  for (const [field, entry] of fields(content)) {
    if (field !== METADATA_PROPS) continue;
    const { 1: key, 2: value } = Object.fromEntries([...fields(entry)]);
    metadata[new TextDecoder().decode(key)] = JSON.parse(new TextDecoder().decode(value));
  }
  return metadata;
}

/** Yield [number, bytes] of each length-delimited field of a message; numbers are passed over. */
function* fields(message) {
  let at = 0;
  const varint = () => { // seven bits a byte, the lowest first; the top bit says that more follow
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const number = varint(); // the value itself, or how long it is
    if (tag % 8 !== LENGTH_DELIMITED) continue;
    yield [Math.floor(tag / 8), message.subarray(at, at + number)];
    at += number;
  }
}
