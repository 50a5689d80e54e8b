// Server-sent events of a response, one by one.
//
// Rules of this file:
// - However the bytes are cut, the events are the same.

export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const blocks = (rest + (value ?? "")).split("\n\n");
    rest = done ? "" : blocks.pop();
    for (const block of blocks) if (block.trim()) yield block;
    if (done) return;
  }
}

// The JSON that an event carries; null if it is a comment, or the end.
export function content(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  const data = lines.map((line) => line.slice(5).trim()).join("\n");
  return data && data !== "[DONE]" ? JSON.parse(data) : null;
}
