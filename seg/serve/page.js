"use strict";

const $ = (id) => document.getElementById(id);
const GONE = "The server does not answer; is it still running?";
const SMALL = 200; // longest side of an image whose pixels stay visible when it is enlarged

let model = null; // what GET /api/model answers
let shown = null; // the result in sight: image, mask and what is chosen; see open()
let results = []; // of the images that were given together
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

/** Segments files one after another, [blob, name] each. What was in sight before goes. */
async function segment(files) {
  const number = ++latest;
  clear();
  document.body.classList.add("busy");
  const errors = [];
  for (const [place, [blob, name]] of files.entries()) {
    say(`Segmenting ${name}${files.length > 1 ? `, ${place + 1} of ${files.length}` : ""} …`, errors.join("\n"));
    try {
      await ready;
      if (blob.size > model.limits.bytes) throw new Error(`larger than ${Math.floor(model.limits.bytes / 2 ** 20)} MiB`);
      const result = await (await fetch("/api/segment?format=json", { method: "POST", body: blob }).then(answer)).json();
      const opened = await open(blob, name, result);
      if (number !== latest) return;
      results.push(opened);
      if (results.length === 1) show(opened);
      else strip();
    } catch (error) {
      if (number !== latest) return;
      errors.push(error instanceof TypeError ? GONE : `${name}: ${error.message.replace(/^upload: /, "")}`);
    }
  }
  document.body.classList.remove("busy");
  say(results.length ? summary(shown) : "", errors.join("\n"));
}

function summary(result) {
  const parts = result.classes.slice(0, 3).map((each) => `${each.name} ${percent(each.share)}`).join(", ");
  const reduced = result.network_width < result.width ? `, reduced to ${result.network_width} × ${result.network_height},` : "";
  return `${result.file}: ${result.width} × ${result.height} pixels${reduced} in ${result.seconds.toFixed(1)}\u00a0s: ${parts}`;
}

/** Takes away the results, so that no old picture stands beside a new error. */
function clear() {
  for (const each of results) URL.revokeObjectURL(each.url);
  [results, shown] = [[], null];
  $("result").hidden = $("several").hidden = true;
  title();
}

function title() {
  const name = model ? model.name : "";
  document.title = [shown?.file, name, "Segment an image"].filter(Boolean).slice(0, 2).join(" · ");
}

/** What is shown of an answer. */
async function open(blob, file, result) {
  const { width, height, network_width, network_height, classes, seconds } = result;
  const png = bytes(result.mask);
  return {
    file, name: file.replace(/\.[^.]*$/, ""), width, height, network_width, network_height, classes, seconds, png,
    mask: await classesOf(png, width, height, model.classes),
    // A kind that the browser does not know (TIFF) has a mask all the same.
    image: await createImageBitmap(blob).catch(() => null), hidden: new Set(), only: null, at: null, url: URL.createObjectURL(png),
    layer: new OffscreenCanvas(width, height),
  };
}

function show(result) {
  shown = result;
  const { width, height } = shown;
  $("view").width = width;
  $("view").height = height;
  $("frame").style.setProperty("--ratio", width / height);
  $("view").classList.toggle("small", Math.max(width, height) <= SMALL);
  $("known").hidden = true;
  $("cross").hidden = true;
  $("pixel").textContent = "\u00a0";
  $("mask").href = shown.url;
  $("mask").download = `${shown.name}_mask.png`;
  legend();
  $("result").hidden = false;
  paint();
  title();
  strip();
}

/** The images that were given together, each a button that shows it. */
function strip() {
  $("several").hidden = results.length < 2;
  if (results.length < 2) return;
  $("strip").replaceChildren(...results.map((result) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const small = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-current", String(result === shown));
    [small.width, small.height] = [Math.ceil((120 * result.width) / Math.max(result.width, result.height)),
      Math.ceil((120 * result.height) / Math.max(result.width, result.height))];
    colored(result, model.background);
    compose(small.getContext("2d"), result, small.width, small.height, opacity());
    button.title = result.file; // long names are cut off
    button.append(small, span("file", result.file));
    button.addEventListener("click", () => {
      show(result);
      say(summary(result));
    });
    item.append(button);
    return item;
  }));
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function legend() {
  $("legend").replaceChildren(...shown.classes.map((each) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.index = each.index;
    button.dataset.share = each.share;
    button.setAttribute("aria-pressed", String(!shown.hidden.has(each.index)));
    button.append(swatch(each.color), span("name", each.name), span("share", percent(each.share)));
    button.addEventListener("click", () => {
      const visible = !shown.hidden.delete(each.index);
      if (visible) shown.hidden.add(each.index);
      button.setAttribute("aria-pressed", String(!visible));
      shown.only = visible ? null : each.index; // a hidden class is not the one to look at
      paint();
    });
    const only = (index) => () => {
      shown.only = shown.hidden.has(index) ? null : index;
      paint();
    };
    for (const event of ["mouseenter", "focus"]) button.addEventListener(event, only(each.index));
    for (const event of ["mouseleave", "blur"]) button.addEventListener(event, only(null));
    item.append(button);
    return item;
  }));
}

function paint() {
  colored(shown, model.background);
  draw();
}

const opacity = () => $("opacity").value / 100;
const draw = () => compose($("view").getContext("2d"), shown, shown.width, shown.height, opacity());

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
  $("percent").textContent = `${$("opacity").value}\u00a0%`;
  draw();
});
$("overlay").addEventListener("click", () => {
  $("view").toBlob((blob) => save(blob, `${shown.name}_overlay.png`), "image/png");
});
$("all").addEventListener("click", async () => {
  const names = new Set();
  const files = results.map(async (each, place) => {
    const name = names.has(each.name) ? `${each.name}_${place + 1}` : each.name; // of two files of one name
    names.add(name);
    return [`${name}_mask.png`, new Uint8Array(await each.png.arrayBuffer())];
  });
  save(zip(await Promise.all(files)), "masks.zip");
});

$("file").addEventListener("change", () => {
  const files = [...$("file").files];
  $("file").value = ""; // so that the same ones may be chosen again
  if (files.length) segment(files.map((file) => [file, file.name]));
});
$("example").addEventListener("click", async () => {
  try {
    segment([[await (await fetch("/api/example").then(answer)).blob(), "example.png"]]);
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
  const files = [...(data?.files ?? [])];
  if (files.length) segment(files.map((file) => [file, file.name || name]));
  else say("", "That was no image file. Choose, drop or paste one.");
}

const ready = fetch("/api/model").then(answer).then((response) => response.json()).then((found) => {
  model = found;
  const limit = `up to ${Math.floor(model.limits.pixels / 1e6)} megapixels`;
  $("about").textContent = `Model ${model.name}: ${model.classes.length} classes. Give it images of ${limit}, and see the class of every pixel.`;
  $("known").hidden = shown !== null;
  $("known").querySelector("ul").replaceChildren(...model.classes.map((each) => {
    const item = document.createElement("li");
    item.append(swatch(each.color), span("name", each.name));
    return item;
  }));
  title();
});
ready.catch(() => say("", GONE));
