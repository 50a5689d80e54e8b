// What shows the server's status: header, live requests, cache, calls, clients.
//
// Rules of this file:
// - Every bar has its figures beside it as text.
// - Only a change of the server's state is announced; figures are not.

import { byId, el, keep, pairs, set, show, text } from "./dom.js";
import * as format from "./format.js";
import { showTurns } from "./turns.js";

const STATES = {
  ok: "Ready",
  loading: "Loading the model …",
  stopping: "Stopping: no new requests are taken",
  failed: "Failed: start the server anew",
};
const TIERS = { memory: "Memory", disk: "Disk" };
const COUNTS = {
  evicted: "Evicted",
  refused: "Refused",
  reads: "Read from disk",
  blocks_written: "Blocks written",
  marks_written: "Checkpoints written",
  errors: "Errors",
};
const OUTCOMES = {
  ok: "Fit their schema",
  repaired: "Written faultily, and read all the same",
  invalid: "Do not fit their schema (delivered all the same)",
  cut: "Cut short (never delivered as whole)",
  text: "Could not be read, and became text",
};
const GRAMMARS = {
  tokens: "Tokens that followed a grammar",
  forced: "Tokens without a rival",
  failed: "Grammars given up",
};

export function say(state, words) {
  set(byId("state"), { "data-state": state });
  text(byId("state"), words);
}

export function showStatus(status) {
  const rests = status.resting ? "Ready; the model rests until the next request" : "";
  say(status.status, rests || STATES[status.status] || status.status);
  text(byId("version"), status.version);
  showFacts(status);
  showClients(status.clients);
  if (!status.model) return;
  document.title = `${status.model.name} – mlx-tools-server`;
  text(byId("model"), status.model.name);
  showLive(status.live, status.queue);
  showTurns(status.recent);
  showCache(status);
  showCalls(status);
}

function showFacts(status) {
  const facts = [["Up for", format.duration(status.uptime_seconds)]];
  if (status.model) {
    const { family, why, context_length: context } = status.model;
    const { bytes, capacity } = status.memory;
    facts.unshift(
      ["Tool calls", `${family}: ${why}`],
      ["Context", context ? `${format.number(context)} tokens` : "not stated by the model"],
    );
    facts.push(
      ["Turns", format.number(status.counts.requests)],
      ["Failures", format.number(status.counts.failures)],
      ["Memory in use", `${format.bytes(bytes)} of ${format.bytes(capacity)}`],
    );
  }
  pairs(byId("facts"), facts);
}

// Live requests.

function showLive(live, queue) {
  text(byId("live-count"), `${queue.in_flight} running, ${queue.waiting} waiting`);
  show(byId("live-none"), live.length === 0);
  keep(byId("live-list"), live, (turn) => turn.id, makeLive, updateLive);
}

function makeLive(turn) {
  const bar = set(el("progress"), { max: 1, "aria-label": `Prompt of ${turn.id}` });
  return el(
    "li",
    "",
    el("p", "who", el("strong", "", format.client(turn.client)), el("span", "", turn.route)),
    el("span", "chip"),
    bar,
    el("p", "figures"),
    el("code", "id", turn.id),
  );
}

function updateLive(item, turn) {
  const [, chip, bar, figures] = item.children;
  text(chip, turn.phase);
  set(chip, { "data-phase": turn.phase });
  bar.value = turn.prompt_tokens ? turn.done_tokens / turn.prompt_tokens : 0;
  text(figures, describeLive(turn));
}

function describeLive(turn) {
  const prompt = turn.prompt_tokens
    ? `prompt ${format.number(turn.done_tokens)} of ${format.number(turn.prompt_tokens)}` +
      ` (${format.number(turn.cached_tokens)} cached)`
    : "preparing the prompt";
  const count = turn.completion_tokens;
  const said = count ? ` · ${format.number(count)} generated` : "";
  return `${prompt}${said} · ${format.seconds(turn.seconds)}`;
}

// Cache and calls.

function showCache({ kv_cache: cache, tokens }) {
  const share = format.percent(tokens.cached, tokens.prompt);
  const lost = format.number(cache.lost_tokens ?? 0);
  text(
    byId("cache-share"),
    `${share} of all prompt tokens were found in the cache (${format.number(tokens.cached)} of ` +
      `${format.number(tokens.prompt)}); ${lost} were computed again.`,
  );
  const tiers = Object.keys(TIERS).filter((name) => cache[name]);
  keep(
    byId("cache-tiers"),
    tiers,
    (name) => name,
    makeTier,
    (child, name) => updateTier(child, cache[name]),
  );
}

function makeTier(name) {
  const meter = set(el("meter"), { min: 0, max: 1, "aria-label": `${TIERS[name]} in use` });
  const head = el("div", "heading", el("h3", "", TIERS[name]), el("p", "figures"));
  return el("div", "tier", head, meter, el("dl", "pairs"));
}

function updateTier(child, tier) {
  const [head, meter, counts] = child.children;
  meter.value = tier.capacity ? tier.bytes / tier.capacity : 0;
  const used = `${format.bytes(tier.bytes)} of ${format.bytes(tier.capacity)}`;
  text(head.lastElementChild, `${used}, ${format.plural(tier.records, "record")}`);
  const known = Object.entries(COUNTS).filter(([name]) => name in tier);
  pairs(counts, known.map(([name, label]) => [label, format.number(tier[name])]));
}

function showCalls({ tool_calls: calls, grammars }) {
  keep(
    byId("calls-rows"),
    Object.keys(OUTCOMES),
    (name) => name,
    (name) =>
      el("tr", "", set(el("th", "", OUTCOMES[name]), { scope: "row" }), el("td", "number")),
    (row, name) => text(row.lastElementChild, format.number(calls[name])),
  );
  const told = Object.entries(GRAMMARS).filter(([name]) => name in grammars);
  pairs(byId("grammar"), told.map(([name, label]) => [label, format.number(grammars[name])]));
}

// Clients.

function showClients(clients) {
  keep(byId("clients"), Object.entries(clients), ([name]) => name, makeClient, updateClient);
}

function makeClient([name]) {
  const code = el("code");
  const button = set(el("button", "plain", "Copy"), { type: "button" });
  set(button, { "aria-label": `Copy the settings of ${name}` });
  button.addEventListener("click", () => copy(name, code));
  return el("li", "", el("h3", "", name), code, button);
}

function updateClient(item, [, command]) {
  text(item.children[1], command);
}

async function copy(name, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    text(byId("copied"), `The settings of ${name} are copied.`);
  } catch {
    // Pages of other machines have no clipboard without TLS.
    getSelection().selectAllChildren(code);
    text(byId("copied"), `The settings of ${name} are selected: copy them by keyboard.`);
  }
}
