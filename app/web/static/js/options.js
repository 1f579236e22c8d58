/** An architecture's options as fields, made from the JSON Schema that GET /architectures gives. */

import { h } from "./dom.js";
import { words } from "./format.js";

/** A labelled field for each option; `pointer` is where the options lie in the body. */
export function optionFields(schema, pointer) {
  return options(schema).map(([name, option]) => {
    const id = `option-${name}`;
    const label = words(name);
    return h(
      "div",
      { class: "field" },
      h("label", { for: id, title: option.description }, label[0].toUpperCase() + label.slice(1)),
      field(option, { id, name, "data-pointer": `${pointer}/${name}`, title: option.description }),
    );
  });
}

/** What the fields say, without what is as it would be anyway. */
export function optionValues(container, schema) {
  const found = options(schema).map(([name, option]) => [name, value(container.querySelector(`[name="${name}"]`), option), option]);
  return Object.fromEntries(
    found.filter(([, value, { default: usual }]) => value !== undefined && JSON.stringify(value) !== JSON.stringify(usual)),
  );
}

/** All but the name of the architecture, which is fixed. */
const options = (schema) => Object.entries(schema?.properties ?? {}).filter(([, option]) => !("const" in option));

const NUMBERS = ["integer", "number"];

function field(option, attributes) {
  if (option.enum) return h("select", attributes, option.enum.map((choice) => new Option(choice, choice, choice === option.default, choice === option.default)));
  if (option.type === "boolean") return h("select", attributes, ["true", "false"].map((choice) => new Option(choice, choice, false, choice === String(option.default))));
  if (NUMBERS.includes(option.type)) {
    const limits = { min: option.minimum, max: option.maximum, step: option.type === "integer" ? 1 : "any" };
    return h("input", { type: "number", value: option.default, ...limits, ...attributes });
  }
  return h("input", { type: "text", autocomplete: "off", value: [option.default ?? []].flat().join(", "), ...attributes });
}

function value(element, option) {
  const text = element.value.trim();
  if (text === "") return undefined;
  if (option.type === "boolean") return text === "true";
  if (option.type === "array") return text.split(",").map((part) => numberOr(part.trim()));
  return NUMBERS.includes(option.type) ? Number(text) : text;
}

/** A number if it reads as one; else the text, which the server will explain. */
const numberOr = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
