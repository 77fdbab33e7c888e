// What seems to be well and may not be: a field that is not there becomes `undefined` in a text, or is left out of a result; a failure that is
// caught and never looked at is as if nothing had been there. In arguments the first is an error, before anything is done; the rest is told.
(function () {
  "use strict";
  const { defineProperty } = Object;
  const { Map: Table, Number: number, String: text } = globalThis;
  const { isInteger } = number;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const [mapGet, mapSet, mapDelete, mapEach] = ["get", "set", "delete", "forEach"].map((name) => bind(Map.prototype[name]));
  const mapSize = bind(Object.getOwnPropertyDescriptor(Map.prototype, "size").get);
  const found = bind(String.prototype.indexOf), sliced = bind(String.prototype.slice), coded = bind(String.prototype.charCodeAt);
  const most = 500, told = 3;

  // Words that stand for what is not there. One that the code or an answer has itself says nothing; nor does any where the code is not known.
  // The engine looks for them in answers, in the same order (`signs` in engine.rs).
  const signs = ["undefined", "NaN", "Invalid Date"];
  // A bit for each that says nothing.
  let known = 7;
  let isMeant = true;
  function begins(code) {
    known = 0;
    for (let at = 0; at < signs.length; at++) if (found(code, signs[at]) >= 0) known |= 1 << at;
    isMeant = (known & 1) !== 0;
  }
  function heard(bits) { known |= bits; }
  const inWord = (code) => code >= 48 && code <= 57 || code >= 65 && code <= 90 || code >= 97 && code <= 122 || code === 95 || code === 36;
  // The sign that a text has in it as a word of its own, or nothing.
  function sign(said) {
    for (let at = 0; at < signs.length; at++) {
      const place = (known & 1 << at) === 0 ? found(said, signs[at]) : -1;
      if (place < 0) continue;
      const after = place + signs[at].length;
      if (!(place > 0 && inWord(coded(said, place - 1))) && !(after < said.length && inWord(coded(said, after)))) return signs[at];
    }
    return "";
  }

  // Of each name in the result, whether it ever had a value. Items of lists have one name together.
  const names = new Table();
  let stands = "";
  function written(key, item) {
    if (typeof item === "string" && stands === "") stands = sign(item);
    if (isMeant || key === "") return;
    const name = isInteger(number(key)) ? "" : key;
    const known = mapGet(names, name);
    if (known === true || known === undefined && mapSize(names) >= most) return;
    mapSet(names, name, item !== undefined);
  }

  // Failures at which the script never looked.
  const unseen = new Table();
  function failed(error, name, key) {
    let said = error.message;
    const look = () => { mapDelete(unseen, error); };
    if (mapSize(unseen) < most) mapSet(unseen, error, { __proto__: null, name, key, said });
    const set = (other) => { look(); said = other; };
    defineProperty(error, "message", { get: () => { look(); return said; }, set, configurable: true });
    return error;
  }
  // It was tried again, and went well.
  function answered(key) {
    mapEach(unseen, (failure, error) => { if (failure.key === key) mapDelete(unseen, error); });
  }

  function notes() {
    let said = "", missing = "", count = 0;
    mapEach(names, (had, name) => {
      if (had || count++ >= told) return;
      missing += (missing === "" ? "" : ", ") + (name === "" ? "each item of a list" : "`" + sliced(name, 0, 64) + "`");
    });
    if (missing !== "") said = "Note: undefined throughout the result, and left out: " + missing + ". Log one of the values to see its fields.";
    if (stands !== "") said += (said === "" ? "" : "\n") + "Note: " + stands + " stands in the result: a field is not there, or is no number.";
    count = 0;
    mapEach(unseen, (failure) => {
      if (count++ >= told) return;
      said += (said === "" ? "" : "\n") + "Note: " + failure.name + " failed, and the script did not look at why: " + sliced(text(failure.said), 0, 300);
    });
    return count > told ? said + "\nNote: and " + (count - told) + " more calls failed." : said;
  }

  // What a script writes as JSON by itself is looked through as its result is.
  const { stringify } = JSON;
  const { stringify: looked } = { stringify(value, replacer, space) {
    if (replacer !== undefined && replacer !== null || isMeant) return stringify(value, replacer, space);
    return stringify(value, (key, item) => { written(key, item); return item; }, space);
  } };
  defineProperty(looked, "length", { value: 3, configurable: true });
  defineProperty(JSON, "stringify", { value: looked, writable: true, configurable: true });

  return { __proto__: null, begins, heard, sign, written, failed, answered, notes };
})
