"use strict";
/* The numbers of the page, and how they are written. */
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const { numbers, against } = data;
const names = numbers.classes;
const percent = (value, digits = 1) => (value == null ? "–" : `${(100 * value).toFixed(digits)}\u00a0%`);
const points = (value) => (value == null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function swatch(index) {
  const element = make("i", { className: "swatch" });
  element.style.background = `rgb(${data.colors[index]})`;
  return element;
}

/* What a confusion matrix, given as entries [truth, prediction, pixels], says about each class that it has. */
function perClass(entries) {
  const found = new Map();
  const of = (index) => found.get(index) ?? found.set(index, { truth: 0, predicted: 0, hit: 0 }).get(index);
  for (const [truth, prediction, pixels] of entries) {
    of(truth).truth += pixels;
    of(prediction).predicted += pixels;
    if (truth === prediction) of(truth).hit += pixels;
  }
  for (const one of found.values()) one.iou = one.hit / (one.truth + one.predicted - one.hit);
  return found;
}

const images = numbers.per_image.map(({ name, pixels }, index) => ({
  name,
  index,
  classes: perClass(pixels),
  iou: data.iou[index],
  other: against && { classes: perClass(against.pixels[index]), iou: against.iou[index] },
}));
