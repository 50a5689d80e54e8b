// Plays the task with Vercel's AI SDK, once for each provider, and prints what it heard as JSON.
//
// Rules of this file:
// - Its one argument is JSON: where the packages are, the server's address, and each run's task.
// - The tools work in the run's own folder; the SDK's own loop calls them.
import { execSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { modules, url, runs } = JSON.parse(process.argv[2]);
const require = createRequire(join(modules, "node_modules", "here.js"));
const { jsonSchema, stepCountIs, streamText, tool } = require("ai");

const MODELS = {
  // What anyclaude uses: the strict parser of chat streams.
  "openai chat": () => openai().chat("m"),
  "openai responses": () => openai().responses("m"),
  "openai-compatible": () =>
    require("@ai-sdk/openai-compatible")
      .createOpenAICompatible({ name: "mlx", baseURL: `${url}/v1`, includeUsage: true })
      .chatModel("m"),
  // Under the address that anyclaude gives it for a server with Anthropic's dialect.
  anthropic: () =>
    require("@ai-sdk/anthropic")
      .createAnthropic({ baseURL: `${url}/anthropic`, apiKey: "local" })
      .languageModel("m"),
};

function openai() {
  return require("@ai-sdk/openai").createOpenAI({ baseURL: `${url}/v1`, apiKey: "local" });
}

function spec(properties, execute) {
  const schema = { type: "object", properties, required: Object.keys(properties) };
  return tool({ inputSchema: jsonSchema(schema), execute: async (input) => execute(input) });
}

function toolsIn(folder) {
  const text = { type: "string" };
  return {
    read_file: spec({ path: text }, ({ path }) => readFileSync(join(folder, path), "utf8")),
    edit_file: spec({ path: text, old: text, new: text }, (input) => {
      const path = join(folder, input.path);
      writeFileSync(path, readFileSync(path, "utf8").replace(input.old, input.new));
      return "edited";
    }),
    run_command: spec({ command: text, seconds: { type: "integer" } }, ({ command }) =>
      execSync(command, { cwd: folder, encoding: "utf8" }),
    ),
  };
}

async function play({ provider, prompt, folder }) {
  const heard = { provider, pieces: 0, cached: [], prompts: [], errors: [] };
  const result = streamText({
    model: MODELS[provider](),
    tools: toolsIn(folder),
    stopWhen: stepCountIs(6),
    maxRetries: 0,
    prompt,
    onError: ({ error }) => heard.errors.push(String(error)),
  });
  for await (const part of result.fullStream) {
    heard.pieces += part.type === "tool-input-delta";
    if (part.type === "finish-step") {
      heard.cached.push(part.usage.cachedInputTokens ?? 0);
      heard.prompts.push(part.usage.inputTokens);
    }
  }
  heard.text = await result.text.catch(String);
  return heard;
}

console.log(JSON.stringify(await Promise.all(runs.map(play))));
