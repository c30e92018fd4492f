// The page: what a visitor does, and what is shown.
import { BLENDS, COLORMAPS, METHODS } from "./onnxcam/index.js";

import { Camera } from "./camera.js";
import { Classes, percent } from "./classes.js";
import { Client, newest } from "./client.js";
import { decode, fileIn } from "./pictures.js";

const STYLES = {
  alpha: "Blended",
  "map-alpha": "Only where it is warm",
  additive: "Added as light",
  heat: "Heatmap alone",
  contours: "Contour lines",
};
const DIVERGING = "diverging";
const REASONS = {
  all_negative:
    "Nothing at this layer speaks for this class. What speaks against it is in the style " +
    "“For and against”.",
  zero_gradient:
    "For this picture the score of this class does not depend on this layer at all. Try another " +
    "class.",
  saturated:
    "The model is so sure that its probability no longer changes with the picture. An export " +
    "with --score logit shows a map here too.",
  all_zero: "The map is zero everywhere. Try another method or class.",
  nothing_positive: "Nothing at this layer speaks for this class.",
  non_finite: "The model gives numbers that are not finite for this picture.",
};
const BEST_GUESS = -1;

const part = (id) => document.getElementById(id);
const view = part("view");
const client = new Client(showProgress);
const camera = new Camera();
const classes = new Classes(part("classes"), part("search"), choose);

let site;
let model;
let asked = null; // the picture that waits for the worker: {picture, shown}
let name = ""; // of the picture that is shown
let shown = null; // its pixels, at the size that is shown
let painted = null; // the same with the heatmap
let spare = null; // memory of an earlier one
let target = BEST_GUESS;
let peeking = false;
let times = {};

async function begin() {
  document.body.classList.add("started");
  connect();
  try {
    const answer = await fetch("site.json", { cache: "no-cache" });
    if (!answer.ok) throw new Error(`site.json can't be fetched (${answer.status})`);
    site = await answer.json();
    document.title = `${site.title} · onnxcam`;
    part("title").textContent = site.title;
    part("made-with").textContent = `onnxcam ${site.onnxcam}`;
    model = await client.call("load", { site });
  } catch (error) {
    part("progress").hidden = true;
    return complain(`This page can't start: ${error.message}.`);
  }
  part("progress").hidden = true;
  classes.begin(model.labels, model.takesTarget);
  fill(part("method"), model.methods.map((each) => [each, METHODS[each].title]));
  part("method-box").hidden = model.methods.length < 2;
  fill(part("layer"), model.layers.map((each, i) => [i, each]));
  part("layer-box").hidden = model.layers.length < 2;
  for (const button of actionButtons("sample")) button.hidden = !site.sample;
  say("Ready for a picture.");
  if (asked) await look();
}

function connect() {
  fill(part("colormap"), Object.keys(COLORMAPS).map((each) => [each, each]));
  const styles = Object.keys(BLENDS).map((each) => [each, STYLES[each] ?? each]);
  fill(part("blend"), [...styles, [DIVERGING, "For and against"]]);
  drawStrip();
  document.addEventListener("click", (event) => {
    const action = event.target.closest?.("[data-action]")?.dataset.action;
    if (action) actions[action]();
  });
  part("file").addEventListener("change", ({ target: { files } }) => {
    if (files[0]) open(files[0]);
    part("file").value = "";
  });
  addEventListener("paste", (event) => {
    const file = fileIn(event.clipboardData);
    if (file) open(file);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    part("dropping").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) part("dropping").hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    part("dropping").hidden = true;
    const file = fileIn(event.dataTransfer);
    if (file) open(file);
    else complain("That was not a file. Save the picture first, then drop it here.");
  });
  part("alpha").addEventListener("input", () => {
    part("alpha-value").textContent = `${part("alpha").value} %`;
    repaint();
  });
  part("blend").addEventListener("change", () => {
    const style = part("blend").value;
    const usual = style === DIVERGING ? 50 : Math.round(100 * BLENDS[style]);
    part("alpha").value = usual;
    part("alpha").disabled = style === "heat";
    part("alpha-value").textContent = `${usual} %`;
    // Colours with a neutral middle, and back.
    const colors = part("colormap");
    if (style === DIVERGING) colors.value = "coolwarm";
    else if (colors.value === "coolwarm") colors.value = "jet";
    drawStrip();
    repaint();
  });
  part("colormap").addEventListener("change", () => {
    drawStrip();
    repaint();
  });
  for (const id of ["method", "layer"]) part(id).addEventListener("change", () => look());
  part("heat").addEventListener("change", draw);
  for (const kind of ["pointerdown", "pointerup", "pointerleave", "pointercancel"]) {
    view.addEventListener(kind, () => {
      peeking = kind === "pointerdown";
      draw();
    });
  }
  view.addEventListener("contextmenu", (event) => {
    if (peeking) event.preventDefault(); // a long touch
  });
}

const actions = {
  choose: () => part("file").click(),
  camera: watch,
  stop: () => camera.stop(),
  save,
  dismiss: () => (part("alert").hidden = true),
  follow: () => choose(BEST_GUESS),
  async sample() {
    try {
      const answer = await fetch(site.sample);
      if (!answer.ok) throw new Error(`${site.sample} can't be fetched (${answer.status})`);
      await open(new File([await answer.blob()], site.sample));
    } catch (error) {
      complain(error.message);
    }
  },
};

/** Show and explain a picture file. */
async function open(file) {
  camera.stop();
  part("alert").hidden = true;
  try {
    asked = await decode(file, file.name || "the pasted picture");
  } catch (error) {
    return complain(`${error.message}.`);
  }
  name = file.name || "picture";
  target = BEST_GUESS;
  present(asked.shown);
  if (model) await look();
}

/** Show a picture, without a heatmap as yet. */
function present(pixels) {
  [shown, painted] = [pixels, null];
  draw();
  view.hidden = part("toolbar").hidden = part("hint").hidden = false;
  part("invitation").hidden = true;
  part("frame").classList.remove("empty");
}

/** Explain what is asked for: a new picture, or the last one with another question. */
const look = newest(async () => {
  const question = {
    target,
    method: part("method").value || undefined,
    layer: Number(part("layer").value || 0),
  };
  const given = asked;
  asked = null;
  try {
    // A large picture is handed over; what is shown is kept.
    const moved = given?.shown && given.shown !== given.picture ? [given.picture.data.buffer] : [];
    const answer = await client.call("explain", { ...given, ...question }, moved);
    if (given) shown = given.shown ?? given.picture;
    times.explain = answer.milliseconds;
    report(answer);
    await repaint();
  } catch (error) {
    complain(`${error.message}.`);
  }
});

const repaint = newest(async () => {
  if (!shown || !model) return;
  const [given, moved] = spare ? [{ spare }, [spare]] : [{}, []];
  spare = null;
  const answer = await client.call("paint", { ...paintOptions(), ...given }, moved);
  const { data, width, height, milliseconds } = answer;
  times.paint = milliseconds;
  spare = painted?.data.buffer ?? null; // to be painted on again
  painted = new ImageData(data, width, height);
  draw();
  const threads = model.threads === 1 ? "one thread" : `${model.threads} threads`;
  part("timing").textContent =
    `Predicted and explained in ${round(times.explain)} ms, painted in ${round(times.paint)} ms ` +
    `(${model.size} pixels into the model, ${threads}).`;
});

function paintOptions() {
  const blend = part("blend").value;
  const way = blend === DIVERGING ? { preset: DIVERGING } : { blend };
  const options = { ...way, colormap: part("colormap").value };
  return blend === "heat" ? options : { ...options, alpha: part("alpha").value / 100 };
}

/** Draw the picture, with or without its heatmap. */
function draw() {
  const pixels = painted && part("heat").checked && !peeking ? painted : shown;
  if (!pixels) return;
  if (view.width !== pixels.width || view.height !== pixels.height) {
    [view.width, view.height] = [pixels.width, pixels.height];
  }
  view.getContext("2d", { willReadFrequently: true }).putImageData(pixels, 0, 0);
}

/** Say in words and numbers what the model answered. */
function report(answer) {
  part("panel").hidden = false;
  classes.show(answer);
  const label = classes.nameOf(answer.target);
  const { reason, sentence } = answer.diagnosis;
  const silence = reason ? (REASONS[reason] ?? sentence) : "";
  part("diagnosis").hidden = !silence;
  if (part("diagnosis").textContent !== silence) part("diagnosis").textContent = silence;
  for (const button of actionButtons("follow")) button.hidden = target === BEST_GUESS;
  view.setAttribute("aria-label", `${name}, with the heatmap for ${label}`);
  if (camera.running) return;
  const chance = answer.probabilities ? `, ${percent(answer.probabilities[answer.target])}` : "";
  say(`${name}: ${label}${chance}.`);
}

function choose(index) {
  target = index;
  return look();
}

/** The camera, explained frame by frame; the last frame stays as the picture. */
async function watch() {
  part("alert").hidden = true;
  if (!model) return complain("The model is still loading.");
  try {
    await camera.start(async (frame) => {
      if (!part("badge").hidden) asked = { picture: frame };
      else {
        live(true);
        asked = { picture: frame };
        present(frame);
      }
      await look();
    });
  } catch (error) {
    complain(`${capital(error.message)}.`);
  }
  live(false);
}

function live(running) {
  if (running) {
    name = "camera";
    target = BEST_GUESS;
    say("The camera is on.");
  } else if (!part("badge").hidden && name === "camera") {
    say("The camera is off; this is its last picture.");
  }
  part("badge").hidden = !running;
  for (const each of ["choose", "camera", "save"]) {
    for (const button of toolbarButtons(each)) button.hidden = running;
  }
  for (const button of toolbarButtons("sample")) button.hidden = running || !site.sample;
  for (const button of actionButtons("stop")) button.hidden = !running;
}

/** Save the overlay in the picture's own size. */
async function save() {
  if (!painted) return;
  try {
    const { data, width, height } = await client.call("paint", { whole: true, ...paintOptions() });
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${name.replace(/\.[^.]*$/, "")}.cam.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    complain(`${error.message}.`);
  }
}

function showProgress({ progress, loaded, total }) {
  const bar = part("progress-bar");
  if (progress === null) {
    bar.removeAttribute("value");
    part("progress-text").textContent = "Starting the model";
  } else {
    bar.value = progress;
    const done = `${megabytes(loaded)} of ${megabytes(total)} MB`;
    part("progress-text").textContent = `Loading the model: ${done}`;
  }
}

function drawStrip() {
  const colors = COLORMAPS[part("colormap").value];
  const pixels = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) pixels.data.set([...colors.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  part("strip").getContext("2d").putImageData(pixels, 0, 0);
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

function actionButtons(action) {
  return document.querySelectorAll(`[data-action="${action}"]`);
}

function toolbarButtons(action) {
  return part("toolbar").querySelectorAll(`[data-action="${action}"]`);
}

function complain(text) {
  part("alert-text").textContent = capital(text);
  part("alert").hidden = false;
}

function say(text) {
  part("status").textContent = text;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function round(milliseconds) {
  return milliseconds < 10 ? milliseconds.toFixed(1) : milliseconds.toFixed(0);
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}

begin();
