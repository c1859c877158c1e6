"use strict";
// What every report page does: read the numbers in the page, draw figures by the drawing library in the colours of the theme, print,
// hand over files. The script of a kind of page follows it and ends with `begin`.

const page = JSON.parse(document.getElementById("page-data").textContent);
const words = page.words;
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
let printing = false;
let isReady = false; // whether the drawing library is
let drawAll = () => {}; // everything anew, of the kind of page

// -- numbers and colours ---------------------------------------------------------------------------------------------

const groups = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: digits }).replace("-", "\u2212");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || name;
const isNarrow = () => document.documentElement.clientWidth < 600;
const margins = () => (isNarrow() ? { l: 48, r: 10, t: 18, b: 24 } : { l: 68, r: 18, t: 18, b: 26 });
const fontSize = () => (isNarrow() ? 11 : 12);
// -- figures ---------------------------------------------------------------------------------------------------------

function baseLayout(box, height) {
  const font = { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Noto Sans CJK SC', sans-serif", size: fontSize(), color: colour("muted") };
  return {
    width: box.clientWidth, height, margin: margins(), font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false, shapes: [], annotations: [], hoverdistance: 12,
  };
}

/** Return text as the library shows it letter for letter: it takes tags for formatting. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const note = (text, x, y, more) => ({ text: plain(text), x, y, xref: "paper", yref: "paper", showarrow: false, font: { size: fontSize(), color: colour("muted") }, ...more });

const config = { displayModeBar: false, responsive: false, doubleClick: false, scrollZoom: false, showTips: false, locale: "en-US" };

/** Return a figure's description with its "$name" colours replaced by those of the present theme. */
function coloured(value) {
  if (typeof value === "string") return /^\$[a-z-]+$/.test(value) ? colour(value.slice(1)) : value;
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item)]));
  return value;
}

/** Draw a figure from its description; `onPoint` hears the custom data of a mark that is clicked. */
function drawChart(chart, onPoint) {
  const box = $(`#plot-${chart.key}`), height = isNarrow() && chart.narrowHeight ? chart.narrowHeight : chart.height, layout = baseLayout(box, height), given = coloured(chart.layout);
  const axis = { gridcolor: colour("grid"), zerolinecolor: colour("line"), linecolor: colour("line"), fixedrange: true };
  Object.assign(layout, given, { xaxis: { ...axis, ...given.xaxis }, yaxis: { ...axis, ...given.yaxis }, margin: { ...layout.margin, ...(isNarrow() ? chart.narrow : given.margin) } });
  layout.hoverlabel = { bgcolor: colour("card"), font: { color: colour("ink") } };
  layout.dragmode = false;
  if (!chart.isDrawn) box.innerHTML = "";
  Plotly.react(box, coloured(chart.data), layout, config);
  if (!chart.isDrawn && onPoint && chart.zooms) box.on("plotly_click", ({ points }) => onPoint(Number(points[0].customdata)));
  chart.isDrawn = true;
}

// -- what a reader does ----------------------------------------------------------------------------------------------

$("#theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
  drawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());

let resizing = 0, knownWidth = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === knownWidth) return; // a phone's address bar comes and goes
  knownWidth = document.documentElement.clientWidth;
  clearTimeout(resizing);
  resizing = setTimeout(() => drawAll(), 120);
});

addEventListener("beforeprint", () => { printing = true; document.documentElement.classList.add("printing"); drawAll(); });
addEventListener("afterprint", () => { printing = false; document.documentElement.classList.remove("printing"); drawAll(); });

/** Hand over one of the page's files; they are packed, for they are seldom asked for. */
async function download(name) {
  const bytes = Uint8Array.from(atob(page.files[name]), (letter) => letter.charCodeAt(0));
  const unpacked = new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await unpacked.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
$$("[data-file]").forEach((button) => button.addEventListener("click", () => download(button.dataset.file)));
$$("[data-copy]").forEach((button) => button.addEventListener("click", () => {
  const range = document.createRange();
  range.selectNodeContents($(button.dataset.copy));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  document.execCommand("copy");
}));

// -- the beginning ---------------------------------------------------------------------------------------------------

/** Sketch the page, and draw it once the sketch has been shown: the library is text until then, so that reading it keeps nobody waiting. */
function begin(sketchAll, draw) {
  drawAll = draw;
  sketchAll();
  document.body.dataset.sketched = performance.now().toFixed(0);
  requestAnimationFrame(() => setTimeout(() => {
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
    isReady = true;
    drawAll();
    document.body.dataset.ready = performance.now().toFixed(0);
  }, 0));
}
