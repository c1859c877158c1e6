// The page of a comparison: which leverage the fans show, the order of tables, and by which leverage the cliff is drawn. Heat maps
// and fans need no script: they are a table and drawings in the page.

/** Show the fans of one leverage. */
function showLeverage(wanted) {
  $$("[data-leverage]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.leverage === wanted)));
  $$(".fan").forEach((fan) => { fan.hidden = fan.dataset.of !== wanted; });
}
$$("[data-leverage]").forEach((button) => button.addEventListener("click", () => showLeverage(button.dataset.leverage)));

/** Order the rows of a table by a column, best known first; once more turns the order round. */
function sortBy(head) {
  const table = head.closest("table"), place = [...head.parentElement.children].indexOf(head), body = table.tBodies[0];
  const isRising = head.getAttribute("aria-sort") === "descending" || head.classList.contains("text") && head.getAttribute("aria-sort") !== "ascending";
  const valueOf = (row) => row.cells[place].dataset.value;
  const compare = (one, other) => {
    const [a, b] = [valueOf(one), valueOf(other)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not known stands last
    const order = Number.isNaN(Number(a)) || Number.isNaN(Number(b)) ? a.localeCompare(b) : Number(a) - Number(b);
    return isRising ? order : -order;
  };
  body.append(...[...body.rows].sort(compare));
  $$("th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", isRising ? "ascending" : "descending");
}
$$("th .sorts").forEach((button) => button.addEventListener("click", () => sortBy(button.closest("th"))));

/** Draw a chart of several views by one of them: where its marks stand across, and what the axis says. */
function showView(chart, number) {
  const view = chart.views[number];
  chart.data.forEach((trace, place) => { if (view.x[place]) trace.x = view.x[place]; });
  chart.layout.xaxis = { ...chart.layout.xaxis, ...view.axis };
  $$(`[data-chart="${chart.key}"]`).forEach((button, place) => button.setAttribute("aria-pressed", String(place === number)));
  if (isReady) drawChart(chart);
}
page.charts.filter((chart) => chart.views).forEach((chart) => {
  $$(`[data-chart="${chart.key}"]`).forEach((button, place) => button.addEventListener("click", () => showView(chart, place)));
});

/** Name marks where there is room for names; a narrow screen has them in the box of a mark and in the table. */
function nameMarks() {
  page.charts.forEach((chart) => chart.data.filter((trace) => trace.textfont).forEach((trace) => {
    trace.mode = isNarrow() ? "lines+markers" : "lines+markers+text";
  }));
}

begin(() => { document.body.dataset.drawn = "0"; }, () => { if (!isReady) return; nameMarks(); page.charts.forEach((chart) => drawChart(chart)); });
