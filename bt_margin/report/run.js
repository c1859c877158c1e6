// Draws the panes of a run: first a plain sketch of what is in sight, for the drawing library takes a moment to be read; then the
// same by the library. All panes of time show one span and one crosshair.

// -- numbers ---------------------------------------------------------------------------------------------------------

const arrays = new Map();

/** Return an array of the page: "u" whole seconds, "f" single and "d" double precision, base64, least byte first. */
function array(name) {
  if (name === null || name === undefined) return null;
  if (!arrays.has(name)) {
    const { type, data } = page.arrays[name];
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    arrays.set(name, new { u: Uint32Array, f: Float32Array, d: Float64Array }[type](bytes.buffer));
  }
  return arrays.get(name);
}

/** Return the first index whose time is not before `time`. */
function lowerBound(times, time) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle + 1; else high = middle;
  }
  return low;
}

/** Return the rows of a span with one more on both sides, so that lines reach the edges: [first, end). */
function rowsOf(times, from, to) {
  return [Math.max(lowerBound(times, from) - 1, 0), Math.min(lowerBound(times, to) + 1, times.length)];
}

/** Return the rows that a picture needs: of each step of time the first, the lowest, the highest and the last, and gaps. */
function thinned(times, low, high, [first, end], from, to, steps) {
  const rows = [];
  if (end - first <= 4 * steps) {
    for (let row = first; row < end; row++) rows.push(row);
    return rows;
  }
  const width = (to - from) / steps;
  let begin = first;
  while (begin < end) {
    const limit = times[begin] + width;
    let last = begin, least = -1, most = -1, gap = -1;
    for (; last < end && times[last] < limit; last++) {
      if (Number.isNaN(low[last])) { if (gap < 0) gap = last; continue; }
      if (least < 0 || low[last] < low[least]) least = last;
      if (most < 0 || high[last] > high[most]) most = last;
    }
    last = Math.max(last, begin + 1);
    const kept = [begin, least, most, gap, last - 1].filter((row) => row >= 0).sort((one, other) => one - other);
    kept.forEach((row, place) => { if (!place || row !== kept[place - 1]) rows.push(row); });
    begin = last;
  }
  return rows;
}

/** Return candles of a span, merged where there are more than `most`: [t, o, h, l, c, how many of the page's in one]. */
function mergedCandles(candles, from, to, most) {
  const [t, o, h, l, c] = ["t", "o", "h", "l", "c"].map((name) => array(candles[name]));
  let first = lowerBound(t, from), end = Math.min(lowerBound(t, to) + 1, t.length);
  const width = Math.max((to - from) / most, 0), out = [[], [], [], [], []];
  let finest = Infinity;
  for (let row = first + 1; row < end; row++) finest = Math.min(finest, t[row] - t[row - 1]);
  const isMerged = end - first > most;
  while (first < end) {
    let last = first, high = h[first], low = l[first];
    const limit = isMerged ? t[first] + width : t[first];
    while (last + 1 < end && t[last + 1] < limit) { last++; high = Math.max(high, h[last]); low = Math.min(low, l[last]); }
    [t[last], o[first], high, low, c[last]].forEach((value, place) => out[place].push(value));
    first = last + 1;
  }
  return { t: out[0], o: out[1], h: out[2], l: out[3], c: out[4], width: isMerged ? width : Number.isFinite(finest) ? finest : page.bar };
}

/** Return the value of a line at a time: the last known one at or before it. */
function valueAt(times, values, time) {
  const row = lowerBound(times, time + 0.5) - 1;
  return row < 0 ? NaN : values[row];
}

// -- words -----------------------------------------------------------------------------------------------------------
function shown(value, form) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (form === "percent") return `${groups(100 * value, Math.abs(value) < 0.1 ? 2 : 1)} %`;
  if (form === "times") return `${groups(value, 2)}x`;
  if (form === "ratio") return groups(value, 3);
  const size = Math.abs(value), digits = size >= 1000 ? (form === "price" ? 1 : 0) : size >= 1 ? 2 : size === 0 ? 0 : Math.min(8, 3 - Math.floor(Math.log10(size)));
  return groups(value, digits);
}

function instant(seconds) {
  const text = new Date(seconds * 1000).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 16)}`;
}

const heightOf = (pane) => Math.round(pane.height * (printing ? 0.66 : 1)); // on paper two or three to a page

// -- the span in sight -----------------------------------------------------------------------------------------------

const [first, last] = page.span;
const shortest = Math.max(4 * page.bar, 60);
let [from, to] = page.view || page.span;
const panes = page.panes.map((pane) => ({ ...pane, box: $(`#plot-${pane.key}`), isLog: null }));

function setSpan(begin, end) {
  const span = Math.min(Math.max(end - begin, shortest), last - first || shortest);
  const middle = (begin + end) / 2;
  from = Math.max(Math.min(middle - span / 2, last - span), first);
  to = Math.min(from + span, Math.max(last, first + span));
  cross(null);
  drawPanes();
}

function spanSaid() {
  $$(".span-said").forEach((place) => { place.textContent = `${instant(from)} – ${instant(to)} UTC`; });
  $$("[data-span]").forEach((button) => {
    const wanted = button.dataset.span === "all" ? last - first : Number(button.dataset.span);
    button.setAttribute("aria-pressed", String(Math.abs(to - from - wanted) < page.bar));
  });
}

// -- what a pane shows -----------------------------------------------------------------------------------------------

/** Call `take` with the row of each known value of a line or of marks in sight; of a line that began before, with its last one too. */
function inSight(line, take) {
  const t = array(line.t), v = array(line.v), begin = lowerBound(t, from), end = lowerBound(t, to + 0.5);
  const before = line.symbol || t[begin] === from ? begin : Math.max(begin - 1, 0);
  for (let row = before; row < end; row++) if (!Number.isNaN(v[row])) take(row, v[row]);
}

/** Return the lowest and highest of what a pane shows; of a line that may lie far away only what is near the rest. */
function extent(pane) {
  let low = Infinity, high = -Infinity;
  const take = (value) => { if (value < low) low = value; if (value > high) high = value; };
  const scan = (line) => {
    const lows = array(line.low), highs = array(line.high);
    inSight(line, (row, value) => { take(lows ? lows[row] : value); take(highs ? highs[row] : value); });
  };
  if (pane.candles) scan({ t: pane.candles.t, v: pane.candles.c, low: pane.candles.l, high: pane.candles.h });
  pane.lines.filter((line) => !line.reach).forEach(scan);
  pane.marks.filter((marks) => !pane.candles || marks.fatal).forEach((marks) => inSight(marks, (row, value) => take(value)));
  if (low > high) [low, high] = [0, 1];
  const isWide = low > 0 && high > pane.wide * low, times = Math.pow(high / low, 0.4);
  const reach = 0.4 * (high - low || Math.abs(high) || 1), near = isWide ? [low / times, high * times] : [low - reach, high + reach];
  pane.isBeyond = "";
  pane.lines.filter((line) => line.reach).forEach((line) => inSight(line, (row, value) => {
    if (value >= near[0] && value <= near[1]) take(value); else if (line.names) pane.isBeyond = line.label;
  }));
  return [low, high];
}

/** Return the limits of a pane's vertical axis, and whether it is logarithmic. */
function limits(pane) {
  let [low, high] = extent(pane);
  const isPositive = low > 0;
  const isLog = isPositive && (pane.isLog === null ? pane.log === "auto" && high > pane.wide * low : pane.isLog);
  pane.mayLog = isPositive;
  if (isLog) {
    const pad = Math.pow(high / low, 0.06) || 1.05;
    return { low: low / pad, high: high * pad, isLog };
  }
  if (pane.floor !== null) low = Math.min(low, pane.floor);
  if (pane.ceiling !== null) high = Math.max(high, pane.ceiling);
  if (pane.cap !== null) high = Math.min(high, pane.cap);
  const pad = 0.06 * (high - low || Math.abs(high) || 1);
  return { low: low === pane.floor ? low : low - pad, high: high === pane.ceiling && pane.key === "drawdown" ? high : high + pad, isLog };
}

/** Return marks of a span, at most one on each spot of a few pixels: what a reader can tell apart. */
function spots(marks, scale, width, height) {
  const t = array(marks.t), v = array(marks.v), taken = new Set(), rows = [];
  for (let row = lowerBound(t, from); row < t.length && t[row] <= to; row++) {
    const key = `${Math.round(((t[row] - from) / (to - from)) * width / 4)}:${Math.round(scale(v[row]) * height / 6)}`;
    if (marks.fatal || !taken.has(key)) { taken.add(key); rows.push(row); }
  }
  return rows;
}

// -- the sketch ------------------------------------------------------------------------------------------------------

function sketch(pane) {
  const room = margins(), width = Math.max(pane.box.clientWidth - room.l - room.r, 10), height = heightOf(pane) - room.t - room.b;
  const { low, high, isLog } = limits(pane), scaleOf = isLog ? Math.log : (value) => value;
  const scale = (value) => (scaleOf(value) - scaleOf(low)) / (scaleOf(high) - scaleOf(low));
  const x = (time) => (room.l + ((time - from) / (to - from)) * width).toFixed(1);
  const y = (value) => (room.t + (1 - Math.min(Math.max(scale(value), 0), 1)) * height).toFixed(1);
  const paths = [];
  if (pane.candles) {
    const { t, h, l } = mergedCandles(pane.candles, from, to, width / 2);
    paths.push(`<path d="${t.map((time, row) => `M${x(time)} ${y(l[row])}V${y(h[row])}`).join("")}" stroke="${colour("candle")}"/>`);
  }
  for (const line of pane.lines) {
    const t = array(line.t), v = array(line.v);
    const [times, values] = pointsOf(line, thinned(t, v, v, rowsOf(t, from, to), from, to, width / 2), Infinity);
    let path = "", pen = "M";
    values.forEach((value, place) => {
      if (value === null || scale(value) < -0.01 || scale(value) > 1.01) { pen = "M"; return; }
      path += pen === "L" && line.step ? `H${x(times[place])}V${y(value)}` : `${pen}${x(times[place])} ${y(value)}`;
      pen = "L";
    });
    paths.push(`<path d="${path}" stroke="${colour(line.color)}" stroke-width="${line.width}"/>`);
  }
  pane.marks.filter((marks) => marks.fatal).forEach((marks) => {
    const t = array(marks.t), v = array(marks.v);
    spots(marks, scale, width, height).forEach((row) => paths.push(
      `<path d="M${x(t[row])} ${y(v[row])}m-5-5l10 10m0-10l-10 10" stroke="${colour("red")}" stroke-width="3"/>`));
  });
  pane.box.innerHTML = `<svg width="${pane.box.clientWidth}" height="${heightOf(pane)}" fill="none" aria-hidden="true">` +
    `<clipPath id="clip-${pane.key}"><rect x="${room.l}" y="${room.t}" width="${width}" height="${height}"/></clipPath>` +
    `<g clip-path="url(#clip-${pane.key})">${paths.join("")}</g></svg>`;
}

// -- the panes by the library ----------------------------------------------------------------------------------------

const stamp = (seconds) => seconds * 1000;

/** Return the points [times, values] of a line at some rows; a step stands until the next row, also where that is a gap. */
function pointsOf(line, rows, cap) {
  const t = array(line.t), v = array(line.v), x = [], y = [];
  let before = NaN;
  for (const row of rows) {
    if (Number.isNaN(v[row]) && line.step && !Number.isNaN(before)) { x.push(t[row]); y.push(Math.min(before, cap)); }
    x.push(t[row]);
    y.push(Number.isNaN(v[row]) ? null : Math.min(v[row], cap));
    before = v[row];
  }
  if (line.step && !Number.isNaN(before) && x.length && x[x.length - 1] < to && t[t.length - 1] > x[x.length - 1]) { x.push(to); y.push(Math.min(before, cap)); }
  return [x, y];
}

function lineTraces(pane, line, width, { low: bottom, isLog }) {
  const t = array(line.t), v = array(line.v), low = array(line.low), high = array(line.high);
  const steps = Math.min(Math.max(width, 300), 1200) / 2;
  const rows = thinned(t, low || v, high || v, rowsOf(t, from, to), from, to, steps);
  const x = rows.map((row) => stamp(t[row])), base = { type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, x };
  const cap = pane.cap === null ? Infinity : pane.cap * 1.02;
  const shape = line.step ? "hv" : "linear", look = { color: colour(line.color), width: line.width, dash: line.dash, shape };
  const traces = [];
  if (low && high) {
    const soft = { ...look, width: 0.8, dash: "solid", color: colour(`${line.color}-soft`) };
    traces.push({ ...base, y: rows.map((row) => low[row]), line: soft });
    traces.push({ ...base, y: rows.map((row) => high[row]), line: soft, fill: "tonexty", fillcolor: colour(`${line.color}-soft`) });
  }
  const [times, y] = pointsOf(line, rows, cap);
  if (line.fill) { // a trace of its own, at the ground where there is a gap: the library would fill across gaps
    const ground = isLog ? bottom : 0, filled = y.map((value) => (value === null ? ground : value));
    traces.push({ ...base, x: times.map(stamp), y: filled, line: { width: 0, shape }, fill: "tozeroy", fillcolor: colour(`${line.color}-soft`) });
  }
  const isAlone = rows.length === 1 ? { mode: "markers", marker: { color: look.color, size: 7 } } : {};
  traces.push({ ...base, x: times.map(stamp), y, line: look, connectgaps: false, ...isAlone });
  return traces;
}

function candleTrace(pane, width) {
  const { t, o, h, l, c, width: wide } = mergedCandles(pane.candles, from, to, Math.max(Math.floor(width / 5), 40));
  const side = { line: { color: colour("candle"), width: 1 } };
  return {
    type: "candlestick", x: t.map((time) => stamp(time - wide / 2)), open: o, high: h, low: l, close: c, hoverinfo: "skip", showlegend: false,
    increasing: { ...side, fillcolor: colour("card") }, decreasing: { ...side, fillcolor: colour("candle") }, whiskerwidth: 0,
  };
}

function markTrace(pane, marks, scale, width, height) {
  const early = pane.candles ? page.bar / 2 : 0; // into the middle of its candle
  const t = array(marks.t), v = array(marks.v), rows = spots(marks, scale, width, height);
  const isCrowded = rows.length > width / 18 && !marks.fatal;
  return {
    type: "scatter", mode: "markers", showlegend: false, x: rows.map((row) => stamp(t[row] - early)), y: rows.map((row) => v[row]),
    text: rows.map((row) => (marks.texts ? plain(marks.texts[row]) : plain(marks.label))), hovertemplate: "%{text}<extra></extra>",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour(marks.color), font: { color: colour("ink") } },
    marker: {
      symbol: marks.symbol, size: isCrowded ? marks.size * 0.7 : marks.size, color: colour(marks.hollow ? "card" : marks.color),
      line: { color: colour(marks.hollow ? marks.color : "card"), width: marks.hollow ? 1.8 : 1.2 },
    },
  };
}

/** Return what a shade with an axis of its own adds: the size held, behind everything else. */
function shadeTraces(shade, width) {
  const t = array(shade.t), v = array(shade.v), rows = thinned(t, v, v, rowsOf(t, from, to), from, to, Math.min(width, 900) / 2);
  return [{
    type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, yaxis: "y2", x: rows.map((row) => stamp(t[row])),
    y: rows.map((row) => v[row]), line: { width: 0, shape: "hv" }, fill: "tozeroy", fillcolor: colour("shade"),
  }];
}

/** Return the limits of a shade's axis: it takes the lowest quarter of the pane. */
function shadeLimits(shade) {
  let low = 0, high = 0;
  inSight(shade, (row, value) => { low = Math.min(low, value); high = Math.max(high, value); });
  return [low, low + 4 * (high - low || 1)];
}

function axisForm(form) {
  if (form === "percent") return { tickformat: ",.3~%" };
  const format = form === "ratio" ? ",.3~f" : isNarrow() ? ",.4~s" : ",.6~r";
  return { tickformat: format, ticksuffix: form === "times" ? "x" : "" };
}

function paneLayout(pane, { low, high, isLog }) {
  const axis = { gridcolor: colour("grid"), zeroline: false, linecolor: colour("line"), tickcolor: colour("line"), fixedrange: true };
  const layout = baseLayout(pane.box, heightOf(pane));
  layout.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  layout.xaxis = {
    ...axis, type: "date", range: [stamp(from), stamp(to)], fixedrange: false, showgrid: false, rangeslider: { visible: false }, nticks: Math.max(2, Math.min(10, Math.floor((pane.box.clientWidth - 60) / (isNarrow() ? 75 : 115)))), tickangle: 0,
    tickformatstops: isNarrow() ? page.narrowTicks : page.ticks, hoverformat: "%Y-%m-%d %H:%M",
  };
  layout.yaxis = {
    ...axis, type: isLog ? "log" : "linear", range: isLog ? [Math.log10(low), Math.log10(high)] : [low, high], nticks: isLog ? undefined : Math.max(3, Math.round(pane.height / 55)),
    ...axisForm(pane.form), ...(isLog ? { tickvals: logTicks(low, high) } : {}),
  };
  layout.annotations.push(note(`${pane.unit}${isLog ? words.log_scale : ""}`, 0, 1, { xanchor: "right", yanchor: "bottom", xshift: pane.unit.length > 8 || isLog ? 40 : -4, yshift: 2 }));
  layout.annotations.push(note("UTC", 0, 0, { xanchor: "left", yanchor: "top", xshift: 2 - layout.margin.l, yshift: -4 }));
  if (low < 0 && high > 0) layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: colour("muted"), width: 1 }, layer: "below" });
  pane.bands.forEach(({ from: begin, to: end, color, label }) => {
    layout.shapes.push({
      type: "rect", xref: "paper", x0: 0, x1: 1, y0: begin, y1: end === null ? Math.max(high, begin) : end, fillcolor: colour(color), line: { width: 0 }, layer: "below" });
    if (label && low < 0.75 * begin) layout.annotations.push(note(label, 0.5, 0, { yanchor: "bottom", xanchor: "center", font: { size: fontSize(), color: colour("red") } }));
  });
  pane.levels.filter(({ value }) => value >= low && value <= high).forEach(({ value, label, color }) => {
    layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line: { color: colour(color), width: 1.2, dash: "dash" } });
    if (isLog && value > 0.5 && value < 1) return; // no room between its neighbours
    layout.annotations.push(note(label, 0.004, isLog ? Math.log10(value) : value, { yref: "y", xanchor: "left", yanchor: "bottom", font: { size: fontSize() - 1, color: colour(color) } }));
  });
  if (pane.shade) {
    layout.yaxis2 = { overlaying: "y", side: "right", range: shadeLimits(pane.shade), visible: false, fixedrange: true };
  }
  return layout;
}

/** Return 1, 2, 5 times powers of ten between two prices, and more of them where that gives too few. */
function logTicks(low, high) {
  for (const factors of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      factors.forEach((factor) => { const tick = factor * 10 ** power; if (tick >= low && tick <= high) ticks.push(tick); });
    if (ticks.length >= 4) return ticks;
  }
  return undefined;
}
function drawPane(pane) {
  pane.box.style.height = `${heightOf(pane)}px`;
  const room = margins(), width = Math.max(pane.box.clientWidth - room.l - room.r, 10), height = heightOf(pane) - room.t - room.b;
  const scaled = limits(pane), { low, high, isLog } = scaled, of = isLog ? Math.log : (value) => value;
  const scale = (value) => (of(value) - of(low)) / (of(high) - of(low));
  const traces = [];
  if (pane.shade) traces.push(...shadeTraces(pane.shade, width));
  if (pane.candles) traces.push(candleTrace(pane, width));
  pane.lines.forEach((line) => traces.push(...lineTraces(pane, line, width, scaled)));
  pane.marks.forEach((marks) => traces.push(markTrace(pane, marks, scale, width, height)));
  if (!pane.isDrawn) pane.box.innerHTML = "";
  Plotly.react(pane.box, traces, paneLayout(pane, scaled), config);
  if (!pane.isDrawn) {
    pane.isDrawn = true;
    pane.box.on("plotly_relayout", (change) => onRelayout(change));
    pane.box.on("plotly_doubleclick", () => setSpan(first, last));
    pane.box.on("plotly_click", (event) => { if (event.points.length) cross(event.points[0].x / 1000); });
  }
  pane.box.dataset.from = from;
  pane.box.dataset.to = to;
  sayBeyond(pane, isLog);
}

function sayBeyond(pane, isLog) {
  const place = $(`#pane-${pane.key} .beyond`);
  if (place) place.textContent = pane.isBeyond ? words.beyond.replace("{name}", pane.isBeyond) : "";
  const button = $(`#pane-${pane.key} .log`);
  if (button) {
    button.hidden = !pane.mayLog;
    button.setAttribute("aria-pressed", String(isLog));
  }
}

function onRelayout(change) {
  const begin = change["xaxis.range[0]"], end = change["xaxis.range[1]"];
  if (begin === undefined || end === undefined) return;
  setSpan(seconds(begin), seconds(end));
}

function seconds(value) {
  return (typeof value === "number" ? value : Date.parse(`${String(value).replace(" ", "T").replace(/(\.\d{3})\d*$/, "$1")}${String(value).length <= 10 ? "T00:00" : ""}Z`)) / 1000;
}

let drawing = 0;

/** Draw all panes of time, those in sight first, giving way to the reader between two of them. */
function drawPanes() {
  spanSaid();
  const turn = ++drawing, isSeen = (pane) => { const { top, bottom } = pane.box.getBoundingClientRect(); return bottom > 0 && top < innerHeight; };
  const queue = [...panes.filter(isSeen), ...panes.filter((pane) => !isSeen(pane))];
  const step = () => {
    if (turn !== drawing || !queue.length) { if (turn === drawing) { document.body.dataset.drawn = String(turn); if ($(".cross").hidden) readOut(null); } return; }
    const pane = queue.shift();
    if (isReady) drawPane(pane); else sketch(pane);
    if (isReady && !printing) setTimeout(step, 0); else step();
  };
  delete document.body.dataset.drawn;
  step();
}

// -- the crosshair ---------------------------------------------------------------------------------------------------

function cross(time) {
  const room = margins();
  panes.forEach((pane) => {
    const line = $(`#pane-${pane.key} .cross`);
    line.hidden = time === null;
    if (time !== null) line.style.left = `${room.l + ((time - from) / (to - from)) * (pane.box.clientWidth - room.l - room.r)}px`;
  });
  readOut(time);
}

/** Write beside each name of a pane's key what it is at a time, at the end of the span where no time is pointed at. */
function readOut(time) {
  const at = time === null ? to : time;
  $$(".cross-time").forEach((place) => { place.textContent = time === null ? "" : `${instant(time)} UTC`; });
  panes.forEach((pane) => {
    const places = new Map($$(`#pane-${pane.key} [data-value]`).map((place) => [place.dataset.value, place]));
    pane.lines.forEach((line) => { const place = places.get(line.key); if (place) place.textContent = shown(valueAt(array(line.t), array(line.v), at), pane.form); });
    if (pane.shade && places.has("shade")) places.get("shade").textContent = groups(Number((valueAt(array(pane.shade.t), array(pane.shade.v), at) || 0).toPrecision(6)), 8);
    if (pane.candles && places.has("candles")) {
      const t = array(pane.candles.t), row = Math.min(lowerBound(t, at), t.length - 1);
      places.get("candles").textContent = time === null ? shown(array(pane.candles.c)[row], "price")
        : ["o", "h", "l", "c"].map((name) => `${name.toUpperCase()} ${shown(array(pane.candles[name])[row], "price")}`).join("  ");
    }
  });
}

panes.forEach((pane) => {
  const wrap = pane.box.parentElement;
  const point = (event) => {
    const room = margins(), { left, width } = pane.box.getBoundingClientRect();
    const share = (event.clientX - left - room.l) / (width - room.l - room.r);
    cross(share < 0 || share > 1 ? null : from + share * (to - from));
  };
  wrap.addEventListener("pointermove", point);
  wrap.addEventListener("pointerdown", point);
  wrap.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") cross(null); });
});

/** Draw everything anew. */
function drawEverything() {
  drawPanes();
  if (isReady) page.charts.forEach((chart) => drawChart(chart, zoomTo));
}

// -- what a reader does ----------------------------------------------------------------------------------------------

/** Show the bars around an instant, as many before as after. */
function zoomTo(time) {
  setSpan(time - 18 * page.bar, time + 12 * page.bar);
  cross(time - page.bar / 2);
  const chosen = $("#chosen");
  (chosen.hidden ? $(".pane") : chosen).scrollIntoView({ behavior: "auto", block: "start" });
}

$$("[data-span]").forEach((button) => button.addEventListener("click", () => {
  if (button.dataset.span === "all") return setSpan(first, last);
  const middle = (from + to) / 2, half = Number(button.dataset.span) / 2;
  return setSpan(middle - half, middle + half);
}));
$$("[data-move]").forEach((button) => button.addEventListener("click", () => {
  const step = Number(button.dataset.move) * (to - from) / 2;
  setSpan(from + step, to + step);
}));
$$(".log").forEach((button) => button.addEventListener("click", () => {
  const pane = panes.find(({ key }) => key === button.dataset.pane);
  pane.isLog = button.getAttribute("aria-pressed") !== "true";
  if (isReady) drawPane(pane);
}));
$$("tr[data-time]").forEach((row) => row.addEventListener("click", () => {
  $$("tr.chosen").forEach((other) => other.classList.remove("chosen"));
  row.classList.add("chosen");
  const detail = $("#chosen"), name = document.createElement("strong");
  name.textContent = words.saved.replace("{time}", $(".when button", row).textContent);
  detail.replaceChildren(name, ...[...$(".saved", row).childNodes].map((node) => node.cloneNode(true)));
  detail.hidden = false;
  zoomTo(Number(row.dataset.time));
}));

begin(drawPanes, drawEverything);
