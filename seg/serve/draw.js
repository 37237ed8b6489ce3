"use strict";

// What page.js draws with: of an answer of the service, the mask, its colors and the picture.

const VOID = 255;

function bytes(text) {
  return new Blob([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))], { type: "image/png" });
}

const percent = (share) => (share > 0 && share < 0.0005 ? "<\u00a00.1\u00a0%" : `${(100 * share).toFixed(1)}\u00a0%`);

/** The class of every pixel, from the colors of the palette PNG. */
async function classesOf(png, width, height, classes) {
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(await createImageBitmap(png, { colorSpaceConversion: "none" }), 0, 0);
  const rgba = pen.getImageData(0, 0, width, height).data;
  const index = new Map(classes.map((each) => [code(...each.color), each.index]));
  const mask = new Uint8Array(width * height);
  for (let i = 0, j = 0; i < mask.length; i++, j += 4) mask[i] = index.get(code(rgba[j], rgba[j + 1], rgba[j + 2])) ?? VOID;
  return mask;
}

const code = (r, g, b) => (r << 16) | (g << 8) | b;

function swatch(color) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("aria-hidden", "true");
  const fill = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ width: "100%", height: "100%", fill: `rgb(${color})` })) fill.setAttribute(key, value);
  made.append(fill);
  return made;
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

/**
 * Colors the layer of a result: hidden classes, the background and void clear, as in the overlays of seg predict; the others
 * faint while one is pointed at in the legend.
 */
function colored(result, background) {
  const colors = new Uint32Array(256);
  for (const { index, color } of result.classes) {
    const clear = index === background || (index === VOID && code(...color) === 0);
    let strength = result.hidden.has(index) || (clear && result.only !== index) ? 0 : 255;
    if (result.only !== null && result.only !== index) strength *= 0.15;
    colors[index] = (Math.round(strength) << 24) | (color[2] << 16) | (color[1] << 8) | color[0];
  }
  const pixels = new ImageData(result.width, result.height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = colors[result.mask[i]];
  result.layer.getContext("2d").putImageData(pixels, 0, 0);
}

function compose(pen, result, width, height, opacity) {
  pen.globalAlpha = 1;
  pen.fillStyle = "#808080";
  pen.fillRect(0, 0, width, height);
  if (result.image) pen.drawImage(result.image, 0, 0, width, height);
  pen.globalAlpha = opacity;
  pen.drawImage(result.layer, 0, 0, width, height);
}
