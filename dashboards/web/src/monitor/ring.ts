/** The last so many things that came; older ones go. */

export class Ring<T> {
  readonly capacity: number;
  #items: T[] = [];
  /** Where the next one goes once the ring is full, which is where the oldest is. */
  #next = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#items.length < this.capacity) {
      this.#items.push(item);
      return;
    }
    this.#items[this.#next] = item;
    this.#next = (this.#next + 1) % this.capacity;
  }

  get newest(): T | undefined {
    return this.#items.at(this.#next - 1);
  }

  get oldest(): T | undefined {
    return this.#items[this.#items.length < this.capacity ? 0 : this.#next];
  }

  replaceNewest(item: T): void {
    const length = this.#items.length;
    if (length > 0) this.#items[(this.#next - 1 + length) % length] = item;
  }

  *newestFirst(): Generator<T> {
    const length = this.#items.length;
    for (let back = 1; back <= length; back += 1) yield this.#items[(this.#next - back + length) % length] as T;
  }

  clear(): void {
    this.#items = [];
    this.#next = 0;
  }
}
