// How each dialect asks, and how its events add up to an answer.
//
// Rules of this file:
// - An answer is a list of parts: {kind: text | reasoning | call, name, text}, the same for all.
// - Pure: nothing here knows of the page.

export const DIALECTS = {
  chat: {
    path: "/v1/chat/completions",
    body: (message, tools, most) => ({
      messages: [{ role: "user", content: message }],
      ...(tools.length && { tools: tools.map((tool) => ({ type: "function", function: tool })) }),
      max_tokens: most,
      stream: true,
      stream_options: { include_usage: true },
    }),
    take: takeChat,
  },
  messages: {
    path: "/v1/messages",
    body: (message, tools, most) => ({
      messages: [{ role: "user", content: message }],
      ...(tools.length && {
        tools: tools.map(({ parameters, ...tool }) => ({ ...tool, input_schema: parameters })),
      }),
      max_tokens: most,
      stream: true,
    }),
    take: takeMessages,
  },
  responses: {
    path: "/v1/responses",
    body: (message, tools, most) => ({
      input: message,
      ...(tools.length && { tools: tools.map((tool) => ({ type: "function", ...tool })) }),
      max_output_tokens: most,
      store: false,
      stream: true,
    }),
    take: takeResponses,
  },
};

export class Answer {
  constructor() {
    this.parts = [];
    this.known = new Map();
    this.finish = "";
    this.problem = "";
    this.usage = null;
  }

  // The part with this key, opened if it is new.
  part(key, kind, name = "") {
    if (!this.known.has(key)) {
      this.known.set(key, { kind, name, text: "" });
      this.parts.push(this.known.get(key));
    }
    return this.known.get(key);
  }

  // More of the last part, if it is of this kind; otherwise of a new one.
  more(kind, text) {
    if (!text) return;
    if (this.parts.at(-1)?.kind !== kind) this.parts.push({ kind, name: "", text: "" });
    this.parts.at(-1).text += text;
  }
}

// Tools in any dialect's form, as {name, description, parameters}; throws what is wrong.
export function readTools(words) {
  if (!words.trim()) return [];
  const read = JSON.parse(words);
  if (!Array.isArray(read)) throw new Error("Give a list: [ … ].");
  return read.map((tool, index) => {
    const { name, description, parameters, input_schema: schema } = tool?.function ?? tool ?? {};
    if (typeof name !== "string") throw new Error(`Tool ${index + 1} has no name.`);
    const known = parameters ?? schema ?? { type: "object", properties: {} };
    return { name, ...(description && { description }), parameters: known };
  });
}

function takeChat(answer, event) {
  if (event.error) answer.problem = event.error.message;
  answer.usage = event.usage ?? answer.usage;
  for (const { delta = {}, finish_reason: finish } of event.choices ?? []) {
    answer.more("reasoning", delta.reasoning_content);
    answer.more("text", delta.content);
    for (const call of delta.tool_calls ?? []) {
      answer.part(call.index, "call", call.function.name).text += call.function.arguments ?? "";
    }
    answer.finish = finish ?? answer.finish;
  }
}

function takeMessages(answer, event) {
  const kinds = { thinking: "reasoning", tool_use: "call" };
  if (event.type === "content_block_start") {
    const { type, name } = event.content_block;
    answer.part(event.index, kinds[type] ?? "text", name);
  } else if (event.type === "content_block_delta") {
    const { text, thinking, partial_json: piece } = event.delta;
    answer.part(event.index, "text").text += text ?? thinking ?? piece ?? "";
  } else if (event.type === "message_delta") {
    answer.finish = event.delta.stop_reason ?? answer.finish;
    answer.usage = event.usage ?? answer.usage;
  } else if (event.type === "error") {
    answer.problem = event.error.message;
  }
}

function takeResponses(answer, event) {
  const kinds = { function_call: "call", custom_tool_call: "call", reasoning: "reasoning" };
  if (event.type === "response.output_item.added") {
    const { type, name } = event.item;
    answer.part(event.output_index, kinds[type] ?? "text", name);
  } else if (typeof event.delta === "string") {
    answer.part(event.output_index, "text").text += event.delta;
  } else if (["response.completed", "response.incomplete"].includes(event.type)) {
    answer.finish = event.response.incomplete_details?.reason ?? event.response.status;
    answer.usage = event.response.usage;
  } else if (event.type === "response.failed") {
    answer.problem = event.response.error?.message ?? "The response failed.";
  } else if (event.type === "error") {
    answer.problem = event.message ?? event.error?.message ?? "The response failed.";
  }
}
