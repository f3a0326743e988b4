/** A value that is looked at now and then and not watched; has of a store what the model needs. */
export class Glimpse {
  /** @type {any} */
  value = undefined;
  /** @type {{ state: string }} */
  current = { state: "loading" };
  /** @type {Set<() => void>} */
  #listeners = new Set();

  /** @param {() => Promise<any>} read */
  constructor(read) {
    this.read = read;
  }

  /** Looks. What is the same stays the same object. */
  async look() {
    const value = await this.read().catch(() => this.value);
    if (this.current.state === "present" && JSON.stringify(value) === JSON.stringify(this.value)) return;
    [this.value, this.current] = [value, { state: "present" }];
    for (const listener of this.#listeners) listener();
  }

  /** @param {() => void} listener */
  subscribe(listener) {
    this.#listeners.add(listener);
  }

  close() {
    this.#listeners.clear();
  }
}
