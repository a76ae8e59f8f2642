// The page: shows frames and their label maps, paints prompts, and runs the tracker on the server.
import { showKeys } from "./keys.js";
import { History, LabelMap } from "./paint.js";
import { ask, Pictures } from "./server.js";
import { drawTimeline, listObjects, View } from "./view.js";

const $ = (id) => document.getElementById(id);
const POLL = 150, PAUSE = 250; // milliseconds: from one look at a run to the next; from a change to its saving

let facts = null, status = null, map = null, isPrompt = false;
let frame = 0, wanted = 0, picture = null, tool = "brush", object = 1, known = new Set([1]);
let history = new History(), before = null, wasPrompt = false; // of the change that is being made
let points = [], last = null, cross = null, panning = null;
let changes = 0, saved = 0, timer = 0, saving = Promise.resolve(); // so many were made, and so many the server has
let opening = false, cutting = false, following = false, playing = 0, asked = 0;
const pictures = new Pictures(), view = new View($("view"));

// ---------------------------------------------------------------------------------------------- the server

function fail(error) {
  $("error").textContent = error.message;
  $("error").hidden = false;
}

const attempt = (action) => async (...args) => {
  try {
    $("error").hidden = true;
    await action(...args);
  } catch (error) {
    fail(error);
  }
};

function save() { // what is painted goes to the server, one map after the other
  clearTimeout(timer);
  saving = saving.catch(() => {}).then(async () => {
    if (saved === changes) return;
    const sent = changes;
    $("saved").textContent = "saving";
    try {
      status = await (await ask("PUT", `/labels?n=${frame}`, (isPrompt ? map.ids : new Uint16Array(map.ids.length)).slice())).json();
    } catch (error) {
      $("saved").textContent = "not saved";
      throw error;
    }
    saved = sent;
    $("saved").textContent = saved < changes ? "saving" : `saved in ${facts.folder}`;
    show();
  });
  return saving;
}

async function open(n) {
  if (facts) {
    checkIdle();
    opening = true;
  }
  try {
    await save();
    await load(n);
  } finally {
    opening = false;
    if (facts) show();
  }
  if (status.running || status.results.running) poll();
}

async function load(n) { // video n
  facts = status = await (await ask("POST", `/open?n=${n}`)).json();
  $("video").replaceChildren(...facts.videos.map((name, i) => new Option(name, i, false, i === n)));
  pictures.clear();
  history = new History();
  known = new Set([1]);
  map = new LabelMap(facts.size[1], facts.size[0]);
  $("slider").max = facts.frames.length - 1;
  $("click").hidden = !facts.clicks;
  showKeys($("keys"), facts.clicks);
  $("saved").textContent = status.prompted.length ? `saved in ${facts.folder}` : "";
  await go(status.prompted[0] ?? 0);
  fit();
}

async function go(k) { // show frame k
  wanted = k = Math.min(Math.max(k, 0), facts.frames.length - 1);
  const ticket = ++asked;
  await save();
  const made = changes, [seen, reply] = await Promise.all([pictures.of(k), ask("GET", `/labels?n=${k}`)]);
  const ids = new Uint16Array(await reply.arrayBuffer());
  if (ticket !== asked) return; // another frame was asked for
  if (before || cutting || made !== changes) return void (wanted = frame); // what is shown was changed meanwhile
  if (k !== frame) giveUp();
  [frame, picture, isPrompt] = [k, seen, reply.headers.get("X-Origin") === "prompt"];
  map.ids = ids;
  map.present().forEach((id) => known.add(id));
  if (k + 1 < facts.frames.length) pictures.of(k + 1).catch(() => {});
  show();
}

async function poll() { // while something runs
  status = await (await ask("GET", "/status")).json();
  show();
  if (following && status.running && status.tracked && status.tracked - 1 !== frame) await go(status.tracked - 1);
  if (status.running || status.results.running) return setTimeout(attempt(poll), POLL);
  if (following) await go(Math.max(status.tracked - 1, 0));
  else await go(wanted);
  const error = status.error || status.results.error;
  if (error) fail(new Error(error));
}

async function run() {
  if (running()) {
    status = await (await ask("POST", "/stop")).json();
    return show();
  }
  checkIdle();
  finish();
  await save();
  history.undone = []; // what they were about may look different after the run
  status = await (await ask("POST", "/run")).json();
  following = true;
  await poll();
}

async function results() {
  checkIdle();
  await save();
  status = await (await ask("POST", "/results")).json();
  following = false;
  await poll();
}

// ---------------------------------------------------------------------------------------------- what is shown

const running = () => status && (status.running || status.results.running), busy = () => opening || cutting || running();

function show() {
  const total = facts.frames.length, writing = status.results;
  $("slider").value = frame;
  $("slider").setAttribute("aria-valuetext", `frame ${facts.frames[frame]}`);
  const origin = isPrompt ? ", prompt" : frame < status.tracked ? ", tracked" : frame < status.reached ? ", tracked before a change" : "";
  $("where").textContent = `frame ${facts.frames[frame]} (${frame + 1} of ${total})${origin}`;
  $("run").textContent = running() ? "Stop" : "Run";
  $("progress").max = total;
  $("progress").value = writing.running ? Math.min(writing.count, total) : status.tracked;
  $("state").textContent = cutting ? "cutting out" : writing.running ? `writing results: frame ${writing.count}`
    : status.running ? `tracking ${status.tracked} of ${total}, ${status.speed} frames/s`
    : writing.done ? `results are in ${writing.folder}`
    : status.tracked === total ? "all frames are tracked" : status.tracked ? `stopped after ${status.tracked} of ${total}; Run goes on from there` : "";
  for (const id of ["undo", "redo", "clear", "results", "save"]) $(id).disabled = busy();
  $("undo").disabled ||= !history.done.length;
  $("redo").disabled ||= !history.undone.length;
  $("clear").disabled ||= !isPrompt;
  $("radius_shown").textContent = 2 * $("radius").value + 1;
  for (const button of $("tools").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  showObjects();
  showTimeline();
  redraw();
}

const colours = (id) => facts.colours[((id - 1) % 255) + 1]; // of the fill, of the outline

const showObjects = () => listObjects($("objects"), known, object, colours, choose);
const showTimeline = () => drawTimeline($("marks"), facts.frames.length, status);

function draw() {
  if (map) view.draw({ picture, map, colours, object, tool, points, clicks: tool === "click" ? history.clicks(frame, object) : [], last, cross, radius: Number($("radius").value), shown: $("shown").checked });
}

const redraw = () => requestAnimationFrame(draw);

function fit() {
  view.fit(map);
  redraw();
}

function zoomBy(factor, x, y) {
  view.zoomBy(factor, x, y);
  redraw();
}

// ---------------------------------------------------------------------------------------------- painting

function checkIdle() { // as it must be where something changes
  if (opening) throw new Error("the video is being opened: wait a moment");
  if (cutting) throw new Error("the object is being cut out: wait a moment");
  if (running()) throw new Error("the tracker runs: stop it, then paint");
}

function begin() { // a change
  checkIdle();
  before = map.ids.slice();
  wasPrompt = isPrompt;
}

function commit(click) { // a change is made: what is on the frame is its prompt
  history.add(frame, wasPrompt, before, map.ids, click);
  before = null;
  isPrompt = map.ids.some(Boolean);
  changed();
}

function changed() { // the frame's prompt is another
  changes += 1;
  $("saved").textContent = "saving";
  clearTimeout(timer);
  timer = setTimeout(attempt(save), PAUSE);
  show();
}

function giveUp() {
  points = [];
  redraw();
}

function finish() { // close the polygon
  if (tool === "polygon" && points.length > 2) {
    begin();
    map.polygon(points, object);
    commit();
  }
  giveUp();
}

const ink = () => (tool === "eraser" ? 0 : object);

async function click(point, label) { // the object is where it is cut out by all clicks on it; label: 1, or 0 where it is not
  checkIdle();
  const clicks = [...history.clicks(frame, object), [...point, label]], id = object;
  if (!clicks.some((one) => one[2])) throw new Error("click on the object first");
  cutting = true;
  show();
  try {
    const mask = new Uint8Array(await (await ask("POST", `/click?n=${frame}`, JSON.stringify({ object: id, clicks }))).arrayBuffer());
    cutting = false;
    begin();
    map.ids = history.beforeClicks(frame, id, map.ids).map((former, i) => (mask[i] ? id : former));
    commit({ object: id, point: clicks.at(-1) });
  } finally {
    cutting = false;
    show();
  }
}

function press(point) { // the tool goes down; for a polygon it is a corner, for a box from the keyboard too
  checkIdle();
  if (tool === "polygon") points.push(point);
  else if (tool === "box") points = [point];
  else {
    begin();
    map.disc(...point, Number($("radius").value), ink());
  }
  redraw();
}

function release(point) {
  if (tool === "box" && points.length) {
    begin();
    map.box(points[0], point, object);
    commit();
    giveUp();
  } else if (before) commit();
}

function choose(id) {
  object = id;
  known.add(id);
  if (tool === "eraser") tool = "brush";
  show();
}

function take(name) {
  if (name === "click" && !facts.clicks) throw new Error("clicks need SAM: start the command with --cut sam_vit_b");
  tool = name;
  giveUp();
  show();
}

async function undo(redo) { // at once, unless its frame must be shown first
  const change = history.last(redo), ready = () => change && change === history.last(redo) && !before && !busy();
  if (ready() && change.frame !== frame) await go(change.frame);
  if (!ready() || change.frame !== frame) return; // where something else was done meanwhile, too
  isPrompt = history.move(map.ids, redo);
  changed();
  if (!isPrompt) await go(frame); // it shows its track
}

function clear() {
  if (!isPrompt || before) return;
  begin();
  map.ids.fill(0);
  commit();
}

// ---------------------------------------------------------------------------------------------- mouse and keys

const canvas = $("view"), strokes = () => tool === "brush" || tool === "eraser";

canvas.addEventListener("pointerdown", attempt(async (event) => {
  canvas.setPointerCapture(event.pointerId);
  cross = null;
  if (tool === "click" && event.button !== 1) await click(view.pixel(event), event.button || event.altKey ? 0 : 1);
  else if (event.button) panning = [event.clientX, event.clientY];
  else press((last = view.pixel(event)));
}));
canvas.addEventListener("pointermove", (event) => {
  const point = view.pixel(event);
  if (panning) {
    view.move(event.clientX - panning[0], event.clientY - panning[1]);
    panning = [event.clientX, event.clientY];
  } else if (before && strokes()) {
    map.line(last, point, Number($("radius").value), ink());
  }
  last = point;
  redraw();
});
const lift = attempt(async (event) => {
  if (panning) panning = null;
  else release(view.pixel(event));
});
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("dblclick", attempt(async () => finish()));
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(1.2 ** -Math.sign(event.deltaY), event.offsetX, event.offsetY);
}, { passive: false });

function play() {
  clearInterval(playing);
  playing = playing ? 0 : setInterval(() => (frame + 1 < facts.frames.length ? move(1) : play()), 1000 / facts.fps);
}

const move = attempt(async (by) => {
  following = false;
  await go(wanted + by);
});

function moveCross(x, y) {
  last ??= [map.width >> 1, map.height >> 1];
  cross = last = [Math.min(Math.max(last[0] + x, 0), map.width - 1), Math.min(Math.max(last[1] + y, 0), map.height - 1)];
  redraw();
}

function enter(label) { // what a click does, at the cross; label 0: what a right click does
  if (tool === "click") return click(last, label);
  if (tool === "polygon") press(last);
  else if (tool === "box" && points.length) release(last);
  else {
    press(last);
    if (tool !== "box") release(last);
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ACTIONS = {
  b: () => take("brush"), e: () => take("eraser"), p: () => take("polygon"), x: () => take("box"), c: () => take("click"),
  n: () => choose(Math.max(...known) + 1), f: finish, r: run, h: () => $("shown").click(),
  "[": () => radius(-1), "]": () => radius(1), "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: fit,
  Escape: giveUp, Delete: clear, Home: () => move(-wanted), End: () => move(facts.frames.length),
  PageUp: () => move(-10), PageDown: () => move(10), ArrowLeft: () => move(-1), ArrowRight: () => move(1),
  "?": () => ($("keys").parentElement.open = !$("keys").parentElement.open),
};
const CONTROLLED = { z: () => undo(false), y: () => undo(true), Z: () => undo(true), s: save };

function radius(by) {
  $("radius").value = Number($("radius").value) + by;
  show();
}

addEventListener("keydown", attempt(async (event) => {
  const at = event.target, control = event.ctrlKey || event.metaKey;
  if (!facts || at.matches("select") || (at.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key))) return;
  if (event.key === " " || event.key === "Enter") {
    if (at.matches("button, input, summary")) return;
    event.preventDefault();
    if (event.key === " ") return play();
    return cross ? enter(event.altKey ? 0 : 1) : finish();
  }
  let action = control ? CONTROLLED[event.key] : ACTIONS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (/^[1-9]$/.test(event.key) && !control) action = () => choose(Number(event.key));
  if (event.shiftKey && ARROWS[event.key]) action = () => moveCross(...ARROWS[event.key].map((one) => one * (control ? 1 : 8)));
  if (!action || event.altKey) return;
  event.preventDefault();
  await action();
}));

const CLICKS = {
  run, results, save, clear, fit, new: ACTIONS.n, undo: () => undo(false), redo: () => undo(true),
  in: ACTIONS["+"], out: ACTIONS["-"],
};
for (const [id, action] of Object.entries(CLICKS)) $(id).onclick = attempt(async () => action());
for (const button of $("tools").querySelectorAll("button")) button.onclick = attempt(async () => take(button.dataset.tool));
$("slider").oninput = attempt(() => move($("slider").value - wanted));
$("radius").oninput = $("shown").onchange = () => show();
$("video").onchange = attempt(() => open(Number($("video").value)));
addEventListener("beforeunload", (event) => saved < changes && event.preventDefault());
new ResizeObserver(() => map && (view.fitted ? fit() : redraw(), showTimeline())).observe($("stage"));
attempt(() => open(0))();
