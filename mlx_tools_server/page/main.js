// The page: asks for the status once a second, and shows it.
//
// Rules of this file:
// - A page that nobody sees asks for nothing.
// - One question at a time: a slow server is not asked faster.

import { KeyNeeded, ask, dropKey, hasKey, useKey } from "./api.js";
import { byId, show, text } from "./dom.js";
import { setUpPlayground } from "./playground.js";
import { say, showStatus } from "./status.js";
import { setUpTurns } from "./turns.js";

const PAUSE = 1000;
let timer = 0;
let asking = false;

async function poll() {
  clearTimeout(timer);
  if (document.hidden || asking) return;
  asking = true;
  try {
    const response = await ask("/api/status");
    if (!response.ok) throw new Error(`status ${response.status}`);
    showStatus(await response.json());
    show(byId("key"), false);
  } catch (error) {
    if (error instanceof KeyNeeded) {
      askForKey();
      return;
    }
    say("gone", "The server does not answer. Trying again …");
  } finally {
    asking = false;
  }
  timer = setTimeout(poll, PAUSE);
}

function askForKey() {
  text(byId("key-error"), hasKey() ? "The server does not know this key." : "");
  dropKey();
  say("key", "Waiting for the API key.");
  if (byId("key").hidden) {
    show(byId("key"), true);
    byId("key-field").focus();
  }
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key-field").value.trim());
  byId("key-field").value = "";
  poll();
});
document.addEventListener("visibilitychange", poll);
setUpTurns();
setUpPlayground(askForKey);
poll();
