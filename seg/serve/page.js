"use strict";

const $ = (id) => document.getElementById(id);
const VOID = 255;
const GONE = "The server does not answer; is it still running?";
const CLEAR = 0; // strength of a black class, which stays clear as in the overlays of seg predict

let model = null; // what GET /api/model answers
let shown = null; // the image, its mask and what is chosen: see show()
let latest = 0; // number of the last request: an older answer is not shown

function say(text, error = "") {
  $("status").textContent = text;
  $("error").textContent = error;
}

async function answer(response) {
  if (response.ok) return response;
  let detail = `${response.status} ${response.statusText}`;
  try {
    detail = (await response.json()).detail;
  } catch { /* not from the service itself */ }
  throw new Error(detail);
}

async function segment(blob, name) {
  const number = ++latest;
  say(`Looking at ${name} …`);
  document.body.classList.add("busy");
  try {
    await ready;
    if (blob.size > model.limits.bytes) throw new Error(`${name} is larger than ${Math.floor(model.limits.bytes / 2 ** 20)} MiB`);
    const response = await fetch("/api/segment?format=json", { method: "POST", body: blob }).then(answer);
    const result = await response.json();
    const png = bytes(result.mask);
    if (number !== latest) return;
    await show(blob, name, result, png);
    const parts = result.classes.slice(0, 3).map((each) => `${each.name} ${percent(each.share)}`).join(", ");
    say(`${name}: ${result.width} × ${result.height} pixels in ${result.seconds.toFixed(1)} s: ${parts}`);
  } catch (error) {
    if (number === latest) say("", error instanceof TypeError ? GONE : error.message);
  } finally {
    if (number === latest) document.body.classList.remove("busy");
  }
}

function bytes(text) {
  return new Blob([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))], { type: "image/png" });
}

const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

/** The class of every pixel, from the colors of the palette PNG. */
async function classesOf(png, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(await createImageBitmap(png, { colorSpaceConversion: "none" }), 0, 0);
  const rgba = pen.getImageData(0, 0, width, height).data;
  const index = new Map(model.classes.map((each) => [code(...each.color), each.index]));
  const mask = new Uint8Array(width * height);
  for (let i = 0, j = 0; i < mask.length; i++, j += 4) mask[i] = index.get(code(rgba[j], rgba[j + 1], rgba[j + 2])) ?? VOID;
  return mask;
}

const code = (r, g, b) => (r << 16) | (g << 8) | b;

async function show(blob, name, result, png) {
  const { width, height } = result;
  const mask = await classesOf(png, width, height);
  // A kind that the browser does not know (TIFF) has a mask all the same.
  const image = await createImageBitmap(blob).catch(() => null);
  if (shown) URL.revokeObjectURL(shown.url);
  shown = {
    name: name.replace(/\.[^.]*$/, ""), image, mask, width, height, classes: result.classes, hidden: new Set(), only: null,
    at: null, url: URL.createObjectURL(png), layer: new OffscreenCanvas(width, height),
  };
  $("view").width = width;
  $("view").height = height;
  $("cross").hidden = true;
  $("pixel").textContent = "\u00a0";
  $("mask").href = shown.url;
  $("mask").download = `${shown.name}_mask.png`;
  legend();
  $("result").hidden = false;
  paint();
}

function legend() {
  $("legend").replaceChildren(...shown.classes.map((each) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.index = each.index;
    button.dataset.share = each.share;
    button.setAttribute("aria-pressed", "true");
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    swatch.setAttribute("aria-hidden", "true");
    const fill = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ width: "100%", height: "100%", fill: `rgb(${each.color})` })) fill.setAttribute(key, value);
    swatch.append(fill);
    button.append(swatch, span("name", each.name), span("share", percent(each.share)));
    button.addEventListener("click", () => {
      const visible = !shown.hidden.delete(each.index);
      if (visible) shown.hidden.add(each.index);
      button.setAttribute("aria-pressed", String(!visible));
      paint();
    });
    const only = (index) => () => {
      shown.only = index;
      paint();
    };
    for (const event of ["mouseenter", "focus"]) button.addEventListener(event, only(each.index));
    for (const event of ["mouseleave", "blur"]) button.addEventListener(event, only(null));
    item.append(button);
    return item;
  }));
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

/** Colors the layer anew: hidden classes and black ones clear, the others faint while one is pointed at in the legend. */
function paint() {
  const colors = new Uint32Array(256);
  for (const { index, color } of shown.classes) {
    const black = code(...color) === 0 && shown.only !== index;
    let strength = shown.hidden.has(index) || black ? CLEAR : 255;
    if (shown.only !== null && shown.only !== index) strength *= 0.15;
    colors[index] = (Math.round(strength) << 24) | (color[2] << 16) | (color[1] << 8) | color[0];
  }
  const pixels = new ImageData(shown.width, shown.height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = colors[shown.mask[i]];
  shown.layer.getContext("2d").putImageData(pixels, 0, 0);
  draw();
}

function draw() {
  const pen = $("view").getContext("2d");
  pen.globalAlpha = 1;
  pen.fillStyle = "#808080";
  pen.fillRect(0, 0, shown.width, shown.height);
  if (shown.image) pen.drawImage(shown.image, 0, 0, shown.width, shown.height);
  pen.globalAlpha = $("opacity").value / 100;
  pen.drawImage(shown.layer, 0, 0);
}

function point(x, y) {
  x = Math.min(Math.max(Math.floor(x), 0), shown.width - 1);
  y = Math.min(Math.max(Math.floor(y), 0), shown.height - 1);
  shown.at = [x, y];
  const index = shown.mask[y * shown.width + x];
  const found = shown.classes.find((each) => each.index === index);
  $("pixel").textContent = `${found?.name ?? "void"} at column ${x}, row ${y}`;
  for (const button of $("legend").querySelectorAll("button")) button.classList.toggle("here", Number(button.dataset.index) === index);
}

function cross() {
  const [x, y] = shown.at;
  $("cross").hidden = false;
  $("cross").style.left = `${(100 * (x + 0.5)) / shown.width}%`;
  $("cross").style.top = `${(100 * (y + 0.5)) / shown.height}%`;
}

$("view").addEventListener("pointermove", (event) => {
  const box = $("view").getBoundingClientRect();
  point(((event.clientX - box.left) / box.width) * shown.width, ((event.clientY - box.top) / box.height) * shown.height);
  $("cross").hidden = true;
});
$("view").addEventListener("pointerdown", (event) => {
  const box = $("view").getBoundingClientRect();
  point(((event.clientX - box.left) / box.width) * shown.width, ((event.clientY - box.top) / box.height) * shown.height);
  cross();
});
$("view").addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!move) return;
  event.preventDefault();
  const step = Math.max(1, Math.round(Math.max(shown.width, shown.height) / (event.shiftKey ? 10 : 100)));
  const [x, y] = shown.at ?? [shown.width / 2, shown.height / 2];
  point(x + step * move[0], y + step * move[1]);
  cross();
});
$("opacity").addEventListener("input", () => {
  $("percent").textContent = `${$("opacity").value} %`;
  draw();
});
$("overlay").addEventListener("click", () => {
  $("view").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${shown.name}_overlay.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }, "image/png");
});

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  $("file").value = ""; // so that the same one may be chosen again
  if (file) segment(file, file.name);
});
$("example").addEventListener("click", async () => {
  try {
    segment(await (await fetch("/api/example").then(answer)).blob(), "example.png");
  } catch {
    say("", GONE);
  }
});
document.addEventListener("paste", (event) => take(event.clipboardData, "a pasted image"));
let depth = 0; // of elements entered while dragging
document.addEventListener("dragenter", () => $("drop").classList.toggle("over", ++depth > 0));
document.addEventListener("dragleave", () => $("drop").classList.toggle("over", --depth > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", (depth = 0) > 0);
  take(event.dataTransfer, "a dropped image");
});

function take(data, name) {
  const [file] = data?.files ?? [];
  if (file) segment(file, file.name || name);
  else say("", "That was no image file; choose one, drop one or paste one.");
}

const ready = fetch("/api/model").then(answer).then((response) => response.json()).then((found) => {
  model = found;
  const limit = `up to ${Math.floor(model.limits.pixels / 1e6)} megapixels`;
  $("about").textContent = `${model.name} knows ${model.classes.length} classes. Drop an image (${limit}), see the class of every pixel.`;
});
ready.catch(() => say("", GONE));
