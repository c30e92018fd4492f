// The list of classes: the best ones, or those whose name holds what is searched for.

const SHOWN = 8;
const ALL_IF_AT_MOST = 12;

export class Classes {
  #list;
  #search;
  #labels = null;
  #answer = null;

  /** @param {(index: number) => void} choose called with the class that was clicked. */
  constructor(list, search, choose) {
    this.#list = list;
    this.#search = search;
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button && !button.disabled) choose(Number(button.dataset.index));
    });
    search.addEventListener("input", () => this.#show());
    search.addEventListener("keydown", (event) => {
      const first = list.querySelector("button");
      if (event.key === "Enter" && first) first.click();
    });
  }

  /** The model's labels, or null, and whether its classes can be chosen. */
  begin(labels, canChoose) {
    this.#labels = labels?.map(nameOf) ?? null;
    this.canChoose = canChoose;
  }

  nameOf(index) {
    return this.#labels?.[index] ?? `class ${index}`;
  }

  /** Show what a picture gave: target, scores, and probabilities or null. */
  show(answer) {
    this.#answer = answer;
    this.#search.parentElement.hidden = answer.scores.length <= ALL_IF_AT_MOST;
    this.#search.placeholder = `among all ${answer.scores.length}`;
    this.#show();
  }

  #show() {
    if (!this.#answer) return;
    const wanted = this.#search.value.trim().toLowerCase();
    const indices = this.#best((index) => this.#fits(index, wanted));
    const { target } = this.#answer;
    if (wanted === "" && !indices.includes(target)) indices.push(target);
    const rows = indices.map((index, place) => this.#row(index, this.#list.children[place]));
    if (rows.length === 0) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "No class has this in its name.";
      rows.push(none);
    }
    // Rows that stay are not touched: they keep the keyboard's focus.
    rows.forEach((row, place) => {
      const present = this.#list.children[place];
      if (present !== row) present ? present.replaceWith(row) : this.#list.append(row);
    });
    while (this.#list.children.length > rows.length) this.#list.lastChild.remove();
  }

  #fits(index, wanted) {
    return String(index) === wanted || this.nameOf(index).toLowerCase().includes(wanted);
  }

  #best(fits) {
    const { scores } = this.#answer;
    const most = scores.length <= ALL_IF_AT_MOST ? scores.length : SHOWN;
    const found = Array.from(scores.keys()).filter(fits);
    return found.sort((a, b) => scores[b] - scores[a] || a - b).slice(0, most);
  }

  #row(index, reused) {
    const { target, scores, probabilities } = this.#answer;
    const row = reused?.querySelector("button") ? reused : emptyRow();
    const [button] = row.children;
    const [bar, name, value] = button.children;
    button.dataset.index = index;
    button.disabled = !this.canChoose;
    button.setAttribute("aria-pressed", String(index === target));
    button.title = this.nameOf(index);
    name.textContent = this.nameOf(index);
    const probability = probabilities?.[index];
    value.textContent = probabilities ? percent(probability) : scores[index].toPrecision(4);
    bar.style.width = `${100 * Math.min(Math.max(probability || 0, 0), 1)}%`;
    return row;
  }
}

function emptyRow() {
  const row = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  for (const kind of ["bar", "name", "value"]) {
    const part = document.createElement("span");
    part.className = kind;
    button.append(part);
  }
  row.append(button);
  return row;
}

/** A label without its WordNet id. */
function nameOf(label) {
  return label.replace(/^n\d{8}[\s_:,]+/u, "").replaceAll("_", " ");
}

export function percent(probability) {
  if (!Number.isFinite(probability)) return "?";
  if (probability > 0.9995 && probability < 1) return "> 99.9 %";
  if (probability > 0 && probability < 0.0005) return "< 0.1 %";
  return `${(100 * probability).toFixed(1)} %`;
}
