// When pictures are seen, on the stream's clock: what sound keeps in step with. Pictures wait for nothing.

const SEEN = 31; // Pictures that count: a second of them. Their median does not mind one that was late.
const STALE = 2000; // Milliseconds after which a picture says nothing of what comes now.

export class Step {
  #offsets = [];
  #last = -Infinity;

  seen(timestamp) {
    this.#last = performance.now();
    this.#offsets.push(this.#last - timestamp);
    if (this.#offsets.length > SEEN) this.#offsets.shift();
  }

  reset() {
    this.#offsets = [];
  }

  // What makes performance.now() of a timestamp: then its picture is seen, and its sound is due. Null: not known, as no
  // picture came of late.
  get offset() {
    if (this.#offsets.length === 0 || performance.now() - this.#last > STALE) return null;
    return this.#offsets.toSorted((a, b) => a - b)[this.#offsets.length >> 1];
  }
}
