"use strict";

// Draws the charts of a page from the numbers in their figures. Until then the figures are hidden,
// and the tables have the numbers.
{
  const ROW = 26;
  const NAME_LENGTH = 24;

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const shortened = (name) =>
    name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}…` : name;

  const datasets = (series) =>
    series.map(([label, data, name]) => ({ label, data, backgroundColor: colour(name) }));

  const scales = ({ series, is_horizontal: isHorizontal }) => {
    const isCounted = series.every(([, data]) => data.every(Number.isInteger));
    const names = {
      stacked: true,
      grid: { display: false },
      ticks: isHorizontal
        ? { autoSkip: false, callback(value) { return shortened(this.getLabelForValue(value)); } }
        : { maxRotation: 0, autoSkipPadding: 12 },
    };
    const numbers = {
      stacked: true,
      beginAtZero: true,
      grid: { color: colour("line") },
      ticks: { maxTicksLimit: 5, precision: isCounted ? 0 : undefined },
    };
    return isHorizontal ? { x: numbers, y: names } : { x: names, y: numbers };
  };

  const options = (chart) => ({
    indexAxis: chart.is_horizontal ? "y" : "x",
    maintainAspectRatio: false,
    interaction: { mode: "index", intersect: false, axis: chart.is_horizontal ? "y" : "x" },
    scales: scales(chart),
    plugins: {
      legend: { display: chart.series.length > 1, align: "start", labels: { boxWidth: 12 } },
      tooltip: {
        backgroundColor: colour("ink"),
        titleColor: colour("ground"),
        bodyColor: colour("ground"),
      },
    },
  });

  const draw = (figure) => {
    const chart = JSON.parse(figure.dataset.chart);
    const canvas = figure.querySelector("canvas");
    Chart.getChart(canvas)?.destroy();
    if (chart.is_horizontal) {
      canvas.parentElement.style.height = `${(chart.labels.length + 3) * ROW}px`;
    }
    figure.hidden = false;
    new Chart(canvas, {
      type: "bar",
      data: { labels: chart.labels, datasets: datasets(chart.series) },
      options: options(chart),
    });
  };

  const drawAll = () => {
    Chart.defaults.color = colour("quiet");
    document.querySelectorAll("figure[data-chart]").forEach(draw);
  };

  Chart.defaults.animation = false;
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.locale = document.documentElement.lang; // as the tables write numbers
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
}
