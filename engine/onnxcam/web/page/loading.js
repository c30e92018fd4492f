// Fetching with progress, and unpacking what is stored compressed.

/**
 * Fetch a file whole.
 *
 * @param {string} address
 * @param {(bytes: number) => void} report called with every further number of bytes.
 * @returns {Promise<Uint8Array>}
 */
export async function download(address, report) {
  // Asked for anew, which costs nothing where it has not changed: a site may be made again.
  const answer = await fetch(address, { cache: "no-cache" }).catch((error) => {
    throw new Error(`${address} can't be fetched (${error.message})`);
  });
  if (!answer.ok) throw new Error(`${address} can't be fetched (${answer.status})`);
  const parts = [];
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    report(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/**
 * The content of a gzip file. A server that knows of such files has had it unpacked by the browser
 * already: then it is returned as it is.
 */
export async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser is too old: it can't unpack gzip (DecompressionStream)");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
