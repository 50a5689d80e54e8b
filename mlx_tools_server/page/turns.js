// The turns that have ended: for each one its tokens and its time, as bars with figures.
//
// Rules of this file:
// - Bars of one column have one scale, so that turns can be compared.
// - Roles are spelled out, since narrow windows show the rows as cards.

import { byId, el, keep, set, show, text } from "./dom.js";
import * as format from "./format.js";

const FEW = 12;
// Seconds below which a wait is none, and a rate says more of the moment than of the model.
const TOO_SHORT = 0.05;
let latest = [];
let all = false;

export function setUpTurns() {
  byId("turns-more").addEventListener("click", () => {
    all = !all;
    showTurns(latest);
  });
}

export function showTurns(turns) {
  latest = turns;
  const shown = all ? turns : turns.slice(0, FEW);
  const tokens = Math.max(1, ...shown.map((turn) => turn.prompt_tokens + turn.completion_tokens));
  const time = Math.max(0.001, ...shown.map((turn) => turn.seconds));
  show(byId("turns-table"), turns.length > 0);
  show(byId("turns-none"), turns.length === 0);
  keep(byId("turns-rows"), shown, (turn) => `${turn.id} ${turn.when}`, makeTurn, (row, turn) => {
    scale(row.children[1].firstElementChild, tokenParts(turn), tokens);
    scale(row.children[2].firstElementChild, timeParts(turn), time);
  });
  const more = byId("turns-more");
  show(more, turns.length > FEW);
  text(more, all ? `Show the last ${FEW} only` : `Show all ${turns.length}`);
  set(more, { "aria-expanded": all });
}

function tokenParts(turn) {
  return [
    ["cached", turn.cached_tokens],
    ["prefill", Math.max(0, turn.prompt_tokens - turn.cached_tokens)],
    ["decode", turn.completion_tokens],
  ];
}

function timeParts(turn) {
  const first = turn.first_token_seconds ?? turn.seconds;
  return [
    ["queued", turn.queued_seconds],
    ["prefill", Math.max(0, first - turn.queued_seconds)],
    ["decode", turn.decode_seconds ?? 0],
  ];
}

function makeTurn(turn) {
  const row = set(el("tr"), { role: "row" });
  row.append(
    cell(
      el(
        "p",
        "who",
        el("strong", "", format.client(turn.client)),
        el("span", "", turn.route),
        set(el("time", "", format.clock(turn.when)), {
          datetime: new Date(turn.when * 1000).toISOString(),
        }),
      ),
      el("code", "id", turn.id),
    ),
    cell(bar(tokenParts(turn)), el("p", "figures", describeTokens(turn)), ...loss(turn)),
    cell(bar(timeParts(turn)), el("p", "figures", describeTime(turn))),
    cell(
      set(el("span", "chip", turn.finish), { "data-finish": turn.finish }),
      el("p", "figures", describeCalls(turn.calls)),
    ),
  );
  return row;
}

function cell(...children) {
  return set(el("td", "", ...children), { role: "cell" });
}

function loss(turn) {
  return turn.loss ? [el("p", "loss", turn.loss)] : [];
}

// The figures beside a bar say the same, so it is hidden from screen readers.
function bar(parts) {
  const made = set(el("div", "bar"), { "aria-hidden": true });
  made.append(...parts.map(([kind]) => el("span", kind)));
  return made;
}

function scale(made, parts, most) {
  parts.forEach(([, size], index) => {
    const part = made.children[index];
    part.hidden = size <= 0;
    part.style.setProperty("--share", `${(100 * size) / most}%`);
  });
}

function describeTokens(turn) {
  const [cached, prefill, decode] = tokenParts(turn).map(([, size]) => format.number(size));
  const thought = turn.reasoning_tokens
    ? ` (${format.number(turn.reasoning_tokens)} of them thoughts)`
    : "";
  return `${cached} cached · ${prefill} prefill · ${decode} decode${thought}`;
}

function describeTime(turn) {
  if (turn.first_token_seconds === null) return `${format.seconds(turn.seconds)}, no token`;
  const speed = turn.tokens_per_second;
  const told = speed !== null && turn.decode_seconds >= TOO_SHORT;
  const rate = told ? ` · ${speed.toFixed(speed < 10 ? 1 : 0)}/s` : "";
  const first = format.seconds(turn.first_token_seconds);
  const waited = turn.queued_seconds;
  const queued = waited >= TOO_SHORT ? `queued ${format.seconds(waited)} · ` : "";
  return `${queued}first token ${first} · decode ${format.seconds(turn.decode_seconds)}${rate}`;
}

function describeCalls(calls) {
  return Object.entries(calls)
    .map(([outcome, count]) => `${format.plural(count, "call")} ${outcome}`)
    .join(", ");
}
