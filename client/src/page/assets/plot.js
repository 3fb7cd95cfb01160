// The last minute of a cast: the age of its pictures, its bitrate, and what was left out.

const SAMPLES = 60; // One a second.
const GAP = 8;

// Round numbers that a scale may end at.
function ceiling(value, least) {
  const size = 10 ** Math.floor(Math.log10(Math.max(value, least)));
  return [1, 2, 5, 10].map((factor) => factor * size).find((end) => end >= Math.max(value, least));
}

export class Plot {
  #canvas;
  #samples = [];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  get length() {
    return this.#samples.length;
  }

  push(sample) {
    this.#samples.push(sample);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    // What is not in sight costs nothing.
    if (this.#canvas.checkVisibility?.() ?? true) this.#draw();
  }

  #draw() {
    const canvas = this.#canvas;
    const ratio = Math.min(devicePixelRatio, 3);
    const [width, height] = [248, 132];
    if (canvas.width !== width * ratio) [canvas.width, canvas.height] = [width * ratio, height * ratio];
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--plot-${name}`);
    const rows = [
      { top: 0, height: 60, values: this.#samples.map(({ age }) => age?.p50), upper: this.#samples.map(({ age }) => age?.p99),
        least: 20, colour: colour("age"), unit: (end) => `${end} ms` },
      { top: 60 + GAP, height: 36, values: this.#samples.map(({ bits }) => bits / 1e6), least: 0.1,
        colour: colour("bits"), unit: (end) => `${end} Mbit/s` },
      { top: 96 + 2 * GAP, height: 20, values: this.#samples.map(({ drops }) => drops), bars: true, least: 5,
        colour: colour("drops"), unit: (end) => `${end} left out` },
    ];
    for (const row of rows) this.#row(context, width, row, colour("grid"), colour("ink"));
  }

  #row(context, width, { top, height, values, upper, least, bars, colour, unit }, lines, ink) {
    const known = [...values, ...(upper ?? [])].filter(Number.isFinite);
    const end = ceiling(Math.max(0, ...known), least);
    const x = (at) => ((SAMPLES - values.length + at + 0.5) * width) / SAMPLES;
    const y = (value) => top + height - (Math.min(value, end) / end) * (height - 1);
    context.fillStyle = lines;
    context.fillRect(0, top, width, 1);
    context.fillRect(0, top + height - 1, width, 1);
    context.fillStyle = colour;
    context.strokeStyle = colour;
    if (bars) {
      values.forEach((value, at) => value > 0 && context.fillRect(x(at) - 1.5, y(value), 3, top + height - y(value)));
    } else {
      if (upper) {
        context.globalAlpha = 0.35;
        upper.forEach((value, at) => {
          if (Number.isFinite(value)) context.fillRect(x(at) - 2, y(value), 4, Math.max(y(values[at]) - y(value), 1));
        });
        context.globalAlpha = 1;
      }
      context.lineWidth = 1.75;
      context.beginPath();
      let open = false;
      values.forEach((value, at) => {
        if (!Number.isFinite(value)) open = false;
        else if (open) context.lineTo(x(at), y(value));
        else {
          context.moveTo(x(at), y(value));
          open = true;
        }
      });
      context.stroke();
    }
    context.fillStyle = ink;
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "top";
    context.fillText(unit(end), 2, top + 3);
  }
}
