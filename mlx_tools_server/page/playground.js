// The playground: a message to the model, and what comes back, raw and read.
//
// Rules of this file:
// - What is shown is what came over the wire; a call's arguments are read as they grow.
// - One request at a time; leaving or cancelling ends it on the server too.

import { KeyNeeded, post } from "./api.js";
import { Answer, DIALECTS, readTools } from "./dialects.js";
import { byId, el, keep, show, text } from "./dom.js";
import { plural } from "./format.js";
import { content, events } from "./streams.js";

// Letters of raw events that are kept in view.
const MOST_SHOWN = 200_000;
const TITLES = { text: "Text", reasoning: "Thought", call: "Tool call" };
const EXAMPLE = [
  {
    name: "write_file",
    description: "Write a text file.",
    parameters: {
      type: "object",
      properties: {
        path: { type: "string", description: "File" },
        content: { type: "string", description: "Text" },
      },
      required: ["path", "content"],
    },
  },
];
let running = null;

export function setUpPlayground(askForKey) {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!running) send(askForKey);
  });
  byId("cancel").addEventListener("click", () => running?.abort());
  byId("example").addEventListener("click", () => {
    byId("tools").value = JSON.stringify(EXAMPLE, null, 2);
    if (!byId("message").value) {
      byId("message").value = "Write the text 'milk and bread' into the file notes.txt.";
    }
  });
}

async function send(askForKey) {
  const form = new FormData(byId("ask"));
  const dialect = DIALECTS[form.get("dialect")];
  let tools;
  try {
    tools = readTools(byId("tools").value);
    text(byId("tools-problem"), "");
  } catch (error) {
    byId("tools-part").open = true;
    text(byId("tools-problem"), `The tools can’t be read: ${error.message}`);
    return;
  }
  const body = dialect.body(byId("message").value, tools, Number(byId("most").value));
  const answer = new Answer();
  running = new AbortController();
  text(byId("events"), "");
  begin();
  try {
    await stream(dialect, { model: "local", ...body }, answer, running.signal);
    say(answer.problem ? `Failed: ${answer.problem}` : finished(answer));
  } catch (error) {
    if (error instanceof KeyNeeded) askForKey();
    say(error.name === "AbortError" ? "Cancelled." : `Failed: ${error.message || "no key"}`);
  } finally {
    running = null;
    byId("cancel").disabled = true;
    byId("send").disabled = false;
  }

  function begin() {
    byId("send").disabled = true;
    byId("cancel").disabled = false;
    showAnswer(answer);
    say("Waiting for the answer …");
  }
}

async function stream(dialect, body, answer, signal) {
  const response = await post(dialect.path, body, signal);
  if (!response.ok) {
    const words = await response.text();
    addRaw(words);
    answer.problem = problem(words) || `status ${response.status}`;
    return;
  }
  for await (const block of events(response)) {
    addRaw(`${block}\n\n`);
    const event = content(block);
    if (event) dialect.take(answer, event);
    if (answer.parts.length) say("Streaming …");
    showAnswer(answer);
  }
}

function problem(words) {
  try {
    return JSON.parse(words).error.message;
  } catch {
    return "";
  }
}

function finished(answer) {
  const said = answer.usage?.completion_tokens ?? answer.usage?.output_tokens;
  return `Finished: ${answer.finish}${said === undefined ? "" : `, ${plural(said, "token")}`}.`;
}

function say(words) {
  text(byId("asked"), words);
}

function addRaw(words) {
  const raw = byId("events");
  const follows = raw.scrollHeight - raw.scrollTop - raw.clientHeight < 40;
  raw.append(words);
  while (raw.textContent.length > MOST_SHOWN) raw.firstChild.remove();
  if (follows) raw.scrollTop = raw.scrollHeight;
}

// The answer.

function showAnswer(answer) {
  const parts = answer.parts.map((part, index) => ({ ...part, index }));
  keep(byId("answer"), parts, (part) => `${part.index} ${part.kind}`, makePart, updatePart);
}

function makePart(part) {
  const title = part.name ? `${TITLES[part.kind]}: ${part.name}` : TITLES[part.kind];
  return el("div", `part ${part.kind}`, el("h4", "", title), el("pre"), el("dl", "arguments"));
}

function updatePart(child, part) {
  const [, words, list] = child.children;
  const read = part.kind === "call" ? readArguments(part.text) : null;
  show(words, read === null);
  show(list, read !== null);
  if (read === null) {
    text(words, part.text);
    return;
  }
  keep(
    list,
    Object.entries(read),
    ([name]) => name,
    ([name]) => el("div", "", el("dt", "", name), el("dd")),
    (pair, [, value]) =>
      text(pair.lastElementChild, typeof value === "string" ? value : JSON.stringify(value)),
  );
}

// The arguments of a call; null while they are not whole.
function readArguments(words) {
  try {
    const read = JSON.parse(words);
    return typeof read === "object" && read !== null && !Array.isArray(read) ? read : null;
  } catch {
    return null;
  }
}
