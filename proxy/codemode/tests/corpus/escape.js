//# nothing_of_a_shell_or_browser -> ok "undefined"
async () => [...new Set(["process", "require", "module", "exports", "fetch", "XMLHttpRequest", "WebSocket", "Deno", "Bun", "Buffer", "window", "self", "global", "document", "importScripts", "std", "os", "bjson", "print", "scriptArgs", "load", "read", "Worker", "WebAssembly", "performance", "navigator", "gc", "Atomics", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry"].map((n) => typeof globalThis[n]))].join()
//# only_the_known_globals -> ok "codemode"
async () => Object.keys(globalThis).join()
//# import_of_a_file -> error
async () => import("/etc/passwd")
//# import_of_the_engines_own -> error
async () => (await import("qjs:os")).exec(["id"])
//# import_of_a_url -> error
async () => import("https://example.com/x.js")
//# import_of_data -> error
async () => import("data:text/javascript,export default 1")
//# import_as_a_statement -> error
import { readFileSync } from "node:fs"; readFileSync("/etc/passwd", "utf8")
//# import_that_nothing_uses -> error
import os from "os";
async () => 1
//# import_in_a_function_made_of_text -> error
async () => new Function("return import('os')")()
//# import_meta -> error
async () => import.meta.url
//# function_of_text_sees_nothing_more -> ok "undefined,undefined,undefined"
async () => new Function("return [typeof process, typeof ask, typeof write].join()")()
//# indirect_eval_sees_nothing_more -> ok "undefined"
async () => (0, eval)("typeof ask + ''")
//# eval_does_not_see_the_prelude -> ok "undefinedundefinedundefined"
async () => eval("typeof waiting + typeof made + typeof mapGet")
//# constructors_lead_to_this_realm_only -> ok true
async () => [codemode.x, console.log, Math.max, JSON.parse, async () => {}, function* () {}].every((f) => (f.constructor("return globalThis")(), true)) && console.log.constructor("return this")() === globalThis
//# generator_constructor -> ok "undefined"
async () => (function* () {}).constructor("yield typeof require")().next().value
//# callers_are_out_of_reach -> ok "TypeError"
async () => { try { return codemode.x.caller } catch (e) { return e.name } }
//# arguments_callee_of_ours -> ok true
async () => { const o = {}; o.toJSON = function () { try { return String(arguments.callee.caller) } catch (e) { return e.name } }; const r = JSON.parse(JSON.stringify({ o })); return !String(r.o).includes("waiting") }
//# stack_hook_gets_no_functions -> ok|error
async () => { Error.prepareStackTrace = (_, frames) => frames; const s = new Error("x").stack; if (Array.isArray(s)) throw s.map((f) => typeof f.getFunction()); return typeof s }
//# stack_names_no_host_paths -> ok false
async () => { try { null.x } catch (e) { return /\/(home|usr|proc|tmp|root)\//.test(e.stack) } }
//# stack_depth_is_pinned -> ok 10
async () => { try { Error.stackTraceLimit = 1e9 } catch {} return Error.stackTraceLimit }
//# source_of_the_engines_functions -> ok true
async () => String(Math.max).includes("native code")
//# symbols_and_species -> ok|error
async () => { class P extends Promise { static get [Symbol.species]() { return function (f) { f(() => {}, () => {}) } } } return await P.resolve(1).then((x) => x) }
//# typed_array_out_of_bounds -> ok "undefined,undefined"
async () => { const a = new Uint8Array(8); return [String(a[2 ** 31]), String(a[-1])].join() }
//# typed_array_over_a_buffer_that_shrinks -> ok|error
async () => { const b = new ArrayBuffer(1 << 16, { maxByteLength: 1 << 17 }); const a = new Uint8Array(b); b.resize(0); a[100] = 1; return [a.length, String(a[100])].join() }
//# sort_that_shrinks_its_buffer -> ok|error
async () => { const b = new ArrayBuffer(1 << 12, { maxByteLength: 1 << 13 }); const a = new Uint32Array(b); a.sort(() => { b.resize(0); return 1 }); return a.length }
//# sort_that_empties_its_array -> ok|error
async () => { const a = Array.from({ length: 500 }, (_, i) => ({ i })); a.sort(() => { a.length = 0; return Math.random() - 0.5 }); return a.length }
//# detached_while_it_is_read -> ok|error
async () => { const b = new ArrayBuffer(64); const v = new DataView(b); return v.getInt8({ valueOf() { b.transfer?.(); return 0 } }) }
//# array_that_shrinks_in_its_own_map -> ok|error
async () => { const a = new Array(1000).fill({}); return a.map((_, i) => { a.length = 1; return i }).length }
//# a_valueof_that_changes_the_length -> ok|error
async () => { const a = [1, 2, 3]; return a.fill(0, { valueOf() { a.length = 1e6; return 0 } }, 5).length }
//# json_with_a_reviver_that_deletes -> ok|error
async () => JSON.stringify(JSON.parse('{"a":{"b":1},"c":[1,2,3]}', function (k, v) { if (k === "a") delete this.c; return v }))
//# regexp_whose_lastindex_runs_code -> ok|error
async () => { const r = /a/g; r.lastIndex = { valueOf() { r.compile?.("b"); return 0 } }; return r.exec("aaa") === null }
//# date_that_runs_code -> ok|error
async () => { const d = new Date(0); return d.setHours({ valueOf() { d.setTime(NaN); return 5 } }) === d.getTime() || true }
//# clock_is_coarse -> ok true
async () => Number.isInteger(Date.now()) && Number.isInteger(+new Date())
//# debugger_does_nothing -> ok 1
async () => { debugger; return 1 }
//# with_and_sloppy_code -> ok|error
with ({ a: 1 }) { a }
//# html_comments -> ok|error
1 <!-- 2
//# hashbang -> ok|error
#!/usr/bin/env node
1
